"""`python -m services.client`."""

from services.client.commands.main import main

if __name__ == "__main__":
    main()
