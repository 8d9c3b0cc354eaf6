"""Write the generated files: `make docs-reference`."""

from __future__ import annotations

from docs.generate.pages import DOCS, files


def main() -> None:
    """Write every file that is not as the code has it, and name it."""
    for name, data in files().items():
        file = DOCS / name
        if not file.is_file() or file.read_bytes() != data:
            file.write_bytes(data)
            print(f"docs/{name}")


if __name__ == "__main__":
    main()
