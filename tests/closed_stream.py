"""A process that closes its stderr and opens a file: prints the file's descriptor and size."""

import os
import sys

from jaxdiff.train.output import unfailing_output


def main():
    os.close(2)
    sys.stderr = None
    with unfailing_output():
        print("lost", file=sys.stderr)
        file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
        os.system("echo of a library >&2")
    print(file, os.fstat(file).st_size)


if __name__ == "__main__":
    main()
