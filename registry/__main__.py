"""`python -m registry`."""

from registry.commands.main import main

if __name__ == "__main__":
    main()
