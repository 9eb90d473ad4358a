"""Remove a folder when the process at the other end of standard input is gone. Run as a script, on its own, without a package.

It imports nothing of overread: it has to be there before the first upload, and to take next to no memory.
"""

import re
import shutil
import sys

#: How a folder of uploads is called, with the process that owns it.
NAME = re.compile(r"overread-serve-(\d+)-\w+")


def main() -> None:
    """Wait for the end of standard input, then remove the folder that the one argument names."""
    folder = sys.argv[1]
    sys.stdin.buffer.read()
    if NAME.fullmatch(folder.replace("\\", "/").rpartition("/")[2]):
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
