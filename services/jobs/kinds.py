"""What the transactions of the store of jobs are for."""

from typing import Literal, TypeAlias

# "changes" is of whoever reads and then writes by what was read: nobody else may write in between
Kind: TypeAlias = Literal["makes", "changes", "reads"]
