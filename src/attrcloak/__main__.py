"""``python -m attrcloak``: the command line."""

if __name__ == "__main__":  # a worker process imports this file too, and has no use for a command line
    from attrcloak.cli import main

    main()
