"""The size of a stored picture, from as little of its file as it takes."""

import pytest
from inmemory import MemoryStore, picture_bytes

from stylebatch.errors import NotFoundError, PictureError
from stylebatch.pictures import stored_size


def test_sizes_are_upright_and_read_from_the_header() -> None:
    image = picture_bytes(400, 300, 1)
    webp = picture_bytes(900, 700, 2, "WEBP")
    store = MemoryStore({"s3://b/a.png": image, "s3://b/a.webp": webp, "s3://b/x.png": b"no picture"})
    assert stored_size(store, "s3://b/a.png") == (400, 300)
    assert stored_size(store, "s3://b/a.webp") == (900, 700)
    with pytest.raises(PictureError, match=r"s3://b/x\.png is not a picture"):
        stored_size(store, "s3://b/x.png")
    with pytest.raises(NotFoundError, match=r"s3://b/y\.png"):
        stored_size(store, "s3://b/y.png")
