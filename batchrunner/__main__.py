"""``python -m batchrunner`` and the ``batchrunner`` command."""


def main() -> None:
    """Run the command line and leave with its exit code."""
    from batchrunner.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
