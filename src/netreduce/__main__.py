"""`python -m netreduce`, the same as the command `netreduce`."""

from netreduce.cli.app import main

if __name__ == "__main__":
    main()
