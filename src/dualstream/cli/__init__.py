"""The command `dualstream`: parses, calls the layers below, prints."""


def main() -> None:
    """Entry point of the console script."""
    from dualstream.cli.app import run

    run()
