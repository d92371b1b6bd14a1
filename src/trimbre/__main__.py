"""`python -m trimbre`, which launchers such as torchrun and accelerate start."""

from trimbre.cli import main

if __name__ == "__main__":
    main()
