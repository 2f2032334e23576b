"""A decentralised market of generative-AI inference, embedded in an asyncio program."""

from ._cuckoo import *  # noqa: F403
from ._cuckoo import __version__  # noqa: F401
