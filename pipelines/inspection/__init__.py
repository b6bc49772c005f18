"""Ground truth, predictions and their errors in FiftyOne: the only importer of FiftyOne.

FiftyOne displays; it computes nothing here. OKS is the evaluation's own (its keypoint similarity is
another one: no sigmas, extent of the points instead of area).
"""
