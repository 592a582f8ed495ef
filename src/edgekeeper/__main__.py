"""``python -m edgekeeper``."""

from edgekeeper.cli import main

if __name__ == "__main__":
    main()
