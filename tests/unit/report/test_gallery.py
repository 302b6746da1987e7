import base64
import re

import cv2
import numpy as np

from edgeseg.report import gallery
from edgeseg.report.gallery import Picture, Section, flip_map
from edgeseg.report.masks import GAINED, LOST


def picture(name="a.jpg"):
    reference = np.zeros((40, 60), np.uint8)
    reference[10:30, 10:30] = 1
    artifact = reference.copy()
    artifact[5, 50] = 1
    artifact[20, 20] = 0
    return Picture(name, ("0.1 % flipped",), np.full((40, 60, 3), 120, np.uint8), reference, artifact)


def test_flipped_pixels_have_the_colour_of_what_happened():
    canvas = flip_map(picture())
    assert tuple(canvas[5, 50]) == GAINED
    assert tuple(canvas[20, 20]) == LOST
    assert tuple(canvas[35, 5]) not in (GAINED, LOST)
    assert (canvas == GAINED).all(axis=2).sum() == 9


def test_the_page_stands_alone_and_its_pictures_can_be_opened(tmp_path):
    path = tmp_path / "masks.html"
    gallery.write(path, "a <b> & c", [Section("net/onnx-fp32", False, (("mIoU", "0.9"),), (picture("<x>.jpg"),))])
    page = path.read_text()
    assert "a &lt;b&gt; &amp; c" in page
    assert "<x>" not in page
    assert not re.search(r"(src|href)=['\"](?!data:)", page)
    found = re.findall(r"base64,([^']+)'", page)
    assert len(found) == 4
    for content in found:
        image = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (40, 60, 3)
