import cv2
import numpy as np
import pytest
from PIL import Image

from edgeseg.core.errors import DataError
from edgeseg.data.images import read_image, read_mask, write_jpeg, write_png

PICTURE = np.zeros((20, 30, 3), np.uint8)
PICTURE[:10, :15] = (250, 10, 20)


def test_png_round_trip_is_rgb(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(write_png(PICTURE))
    np.testing.assert_array_equal(read_image(file), PICTURE)
    assert Image.open(file).getpixel((0, 0)) == (250, 10, 20)


def test_exif_rotation_is_honoured(tmp_path):
    file = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: rotate by 90 degrees clockwise
    Image.fromarray(PICTURE).save(file, exif=exif, quality=100, subsampling=0)
    image = read_image(file)
    assert image.shape == (30, 20, 3)
    assert image[2, -3, 0] > 200
    assert image[2, 2, 0] < 50


@pytest.mark.parametrize("kept", [0, 1, 10, 300, 0.5, 0.9, 0.999])
def test_a_truncated_jpeg_is_an_error_and_not_a_grey_picture(tmp_path, kept):
    noise = np.random.default_rng(0).integers(0, 255, (80, 80, 3)).astype(np.uint8)
    content = write_jpeg(noise, 95)
    file = tmp_path / "cut.jpg"
    file.write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(DataError, match=r"cut\.jpg is not an image"):
        read_image(file)


def test_a_jpeg_with_something_behind_its_end_is_fine(tmp_path):
    file = tmp_path / "motion.jpg"
    file.write_bytes(write_jpeg(PICTURE) + b"\xff\xda" + b"movie" * 100)
    assert read_image(file).shape == PICTURE.shape


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_rubbish(tmp_path, content):
    file = tmp_path / "rubbish.png"
    file.write_bytes(content)
    with pytest.raises(DataError, match="not an image"):
        read_image(file)
    with pytest.raises(DataError, match="not a mask"):
        read_mask(file)
    with pytest.raises(DataError, match="does not exist"):
        read_image(tmp_path / "nowhere.png")


def test_masks_of_every_kind_hold_the_same_codes(tmp_path):
    codes = np.zeros((8, 8), np.uint8)
    codes[2:5, 2:5] = 1
    palette = Image.fromarray(codes, mode="P")
    palette.putpalette([0, 0, 0, 200, 30, 90] + [0] * 762)
    files = {
        "palette.png": palette,
        "grey.png": Image.fromarray(codes),
        "rgb.png": Image.fromarray(np.dstack([codes] * 3)),
    }
    for name, picture in files.items():
        picture.save(tmp_path / name)
        np.testing.assert_array_equal(read_mask(tmp_path / name), codes, err_msg=name)
    Image.fromarray(codes * 255).convert("1").save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "bits.png"), codes * 255)
    cv2.imwrite(str(tmp_path / "deep.png"), codes.astype(np.uint16))
    np.testing.assert_array_equal(read_mask(tmp_path / "deep.png"), codes)


def test_a_coloured_mask_is_refused(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "colours.png")
    with pytest.raises(DataError, match="holds colours"):
        read_mask(tmp_path / "colours.png")
