"""Getting files from the network: whole ones, kept and resumed, and parts of large ones."""

from rtmo.fetch.files import FetchedFile as FetchedFile
from rtmo.fetch.files import fetch_files as fetch_files
from rtmo.fetch.files import read_record as read_record
from rtmo.fetch.files import record_path as record_path
from rtmo.fetch.files import require_space as require_space
from rtmo.fetch.files import transfer_display as transfer_display
from rtmo.fetch.ranges import Look as Look
from rtmo.fetch.ranges import RemoteBytes as RemoteBytes
from rtmo.fetch.ranges import first_look as first_look
from rtmo.fetch.remote import FetchError as FetchError
from rtmo.fetch.remote import Patience as Patience
from rtmo.fetch.remote import RelativePath as RelativePath
from rtmo.fetch.remote import RemoteFile as RemoteFile
from rtmo.fetch.remote import TransferError as TransferError
from rtmo.fetch.remote import inside as inside
