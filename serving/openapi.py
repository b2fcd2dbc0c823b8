"""The interface as a file: `python -m serving.openapi` writes serving/openapi.json, which `make generate` keeps."""

import json
from pathlib import Path

from serving.app import described_app

FILE = Path(__file__).parent / "openapi.json"


def text() -> str:
    """The OpenAPI document of this code; the product's version is left out, as a release changes no interface."""
    document = described_app().openapi()
    document["info"]["version"] = "v1"
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the file."""
    FILE.write_text(text())
    print(f"{FILE}: written")


if __name__ == "__main__":
    main()
