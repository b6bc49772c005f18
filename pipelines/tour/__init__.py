"""`make tour`: half an hour for a sceptic, who sees each promise kept, or not.

Steps work in copies of a finished checkout. What they type there is what a person can type.
"""
