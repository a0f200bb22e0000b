"""Makes a small picture of a large one.

Event: {"image": a picture in base64, "width": pixels, by default 128}
Answer: {"thumbnail": a JPEG in base64, "width": pixels, "height": pixels}
"""

import base64
import io
from typing import Any

from PIL import Image


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    width = int(event.get("width", 128))
    with Image.open(io.BytesIO(base64.b64decode(event["image"]))) as picture:
        picture.draft("RGB", (width, width))  # lets the JPEG decoder skip what will not be seen
        height = max(1, round(picture.height * width / picture.width))
        small = picture.convert("RGB").resize((width, height))
    written = io.BytesIO()
    small.save(written, "JPEG", quality=80)
    thumbnail = base64.b64encode(written.getvalue()).decode()
    print(f"{width} x {height}, {len(thumbnail)} characters")
    return {"thumbnail": thumbnail, "width": width, "height": height}
