"""The page in Debian's chromium, as a person uses it. Run with -m browser.

EDGEKEEPER_SCREENS names a folder to keep screenshots in.
"""

import itertools
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips

from edgekeeper.image import read_image
from edgekeeper.video.source import survey

CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium"),
]

Server = Any  # of conftest.py
Photo = Callable[..., Path]
Page = Any  # of playwright
PHOTO = Path(__file__).parents[2] / "examples" / "test" / "beacon-street-sunset.png"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs pip install playwright")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Any, server: Server) -> Iterator[Callable[..., Page]]:
    """Open the page of an empty server; in the end nothing went wrong on it."""
    wrong: list[str] = []
    contexts = []
    for image in server.api.get("/images").json():
        server.api.delete(f"/images/{image['id']}")

    def open_(**options: Any) -> Page:
        options = {"locale": "en-GB", "viewport": {"width": 1200, "height": 850}, **options}
        contexts.append(browser.new_context(accept_downloads=True, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(120_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: said.type == "error" and wrong.append(said.text))
        page.goto(server.address)
        return page

    yield open_
    for context in contexts:
        context.close()
    # That the server cannot just now the browser notes by itself.
    assert not [text for text in wrong if "status of 503" not in text], wrong


def small_photo(path: Path, width: int = 240) -> Path:
    """A photograph made small, as a JPEG."""
    pyvips.Image.thumbnail(str(PHOTO), width).jpegsave(str(path), Q=95)
    return path


def keep(page: Page, name: str) -> None:
    if folder := os.environ.get("EDGEKEEPER_SCREENS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.wait_for_timeout(300)  # until colours have changed
        page.screenshot(path=Path(folder, f"{name}.png"), full_page=page.is_hidden("#viewer"))


def enlarge(page: Page, *files: Path) -> None:
    page.set_input_files("#files", files)
    page.click("#start:enabled")


def check_accessible(page: Page) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page).response["violations"]
    serious = [
        (f["id"], f["nodes"][0]["html"]) for f in found if f["impact"] in ("serious", "critical")
    ]
    assert not serious, serious


def test_from_the_page_to_a_larger_photograph_in_three_clicks(
    open_page: Any, tmp_path: Path
) -> None:
    page = open_page()
    with page.expect_file_chooser() as chooser:
        page.get_by_text("Choose images").click()  # 1
    chooser.value.set_files(small_photo(tmp_path / "photo.jpg"))
    page.get_by_text("240 × 135 → 960 × 540 pixels").wait_for()
    assert "JPEG quality about 95" in page.inner_text("#images")
    keep(page, "dropped")
    page.get_by_role("button", name="Enlarge one image").click()  # 2
    page.get_by_text("done").wait_for()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download: photo.jpg").click()  # 3
    assert download.value.suggested_filename == "photo_x4.jpg"
    made = read_image(download.value.path()).header
    assert (made.width, made.height) == (960, 540)
    assert page.is_disabled("#start")  # it is made already
    keep(page, "done")
    check_accessible(page)


def test_the_page_says_where_images_go_as_it_was_reached(
    serve: Any, browser: Any, tmp_path: Path
) -> None:
    with serve(tmp_path / "open", "--host", "0.0.0.0", "--token", "abc") as server:
        printed = [server.address]
        while (line := server.process.stdout.readline()).startswith("http"):
            printed.append(line.partition("?")[0])
        for address in printed:
            for locale, local, sent in (
                (
                    "en-GB",
                    "Nothing leaves this computer.",
                    "What you add goes to {}, where all who",
                ),
                ("de-DE", "Nichts verlässt diesen Rechner.", "Was Sie hinzufügen, geht an {}, wo"),
            ):
                page = browser.new_page(locale=locale)
                page.goto(f"{address}?token=abc")
                words = page.inner_text("#where")
                if address == printed[0]:
                    assert words == local
                else:
                    host = address.removeprefix("http://").rstrip("/")
                    assert words.startswith(sent.format(host))
                    assert words.endswith(("is not encrypted.", "ist nicht verschlüsselt."))
                page.close()


def test_drop_paste_folder_and_a_broken_file(open_page: Any, photo: Photo, tmp_path: Path) -> None:
    page = open_page()
    files = tmp_path / "folder" / "below"
    files.mkdir(parents=True)
    photo(files / "one.png")
    page.set_input_files("#folder", tmp_path / "folder")
    page.get_by_role("heading", name="one.png").wait_for()
    for kind, holder in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        page.evaluate(
            """([kind, holder, bytes]) => {
                const given = new DataTransfer();
                given.items.add(new File([new Uint8Array(bytes)], `${kind}.png`));
                given.items.add(new File(["no image"], `${kind}.txt`));
                const event = new Event(kind, { bubbles: true, cancelable: true });
                event[holder] = given;
                document.body.dispatchEvent(event);
            }""",
            [kind, holder, list((files / "one.png").read_bytes())],
        )
        page.get_by_role("heading", name=f"{kind}.png").wait_for()
        page.get_by_text(f"'{kind}.txt' is not an image").wait_for()
    page.get_by_role("button", name="Enlarge 3 images").wait_for()
    page.evaluate(
        """() => { const given = new DataTransfer(); given.items.add(new File([], "empty.png"));
            const event = new Event("drop", { bubbles: true }); event.dataTransfer = given;
            document.body.dispatchEvent(event); }"""
    )
    page.get_by_text("'empty.png' is empty (0 bytes).").wait_for()
    (tmp_path / "bad.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    page.set_input_files("#files", tmp_path / "bad.zip")
    page.get_by_text("'bad.zip' cannot be opened: it holds no file.").wait_for()
    with (tmp_path / "vast.png").open("wb") as file:
        file.truncate(501 * 10**6)
    page.set_input_files("#files", tmp_path / "vast.png")
    page.get_by_text("“vast.png” was not taken: The file is larger than 500 MB").wait_for()


def test_files_that_are_on_their_way_are_counted(
    open_page: Any, photo: Photo, tmp_path: Path
) -> None:
    page = open_page()
    held: list[Any] = []
    page.route("**/api/v1/images?name=*", lambda route: held.append(route))
    page.set_input_files("#files", [photo(tmp_path / "a.png"), photo(tmp_path / "b.png")])
    said = page.locator("#sending")
    page.get_by_text("Files are being sent, 2 to go").wait_for()
    while len(held) < 2:
        page.wait_for_timeout(50)
    held[0].continue_()
    page.get_by_text("Files are being sent, 1 to go").wait_for()
    held[1].fulfill(status=503, json={"error": "No."})  # what fails is counted too
    said.wait_for(state="hidden")
    assert "was not taken: No." in page.inner_text("#problems")


def test_of_a_damaged_file_a_switch_takes_what_is_there(open_page: Any, tmp_path: Path) -> None:
    page = open_page()
    assert page.locator("#tolerant").is_hidden()
    whole = small_photo(tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    page.set_input_files("#files", tmp_path / "a.jpg")
    switch = page.get_by_label("Use what is there of damaged files")
    page.get_by_text("is damaged. Switch on “Use what is there of damaged files”.").wait_for()
    page.get_by_text("The file is damaged or cut short: the rows from about").wait_for()
    keep(page, "damaged")
    assert page.locator("#start").is_disabled()
    switch.check()
    page.click("#start:enabled")
    page.get_by_text("done", exact=False).wait_for()
    assert page.locator("#start").is_disabled()
    page.click("#language")
    page.get_by_text(
        "Die Datei ist beschädigt oder abgeschnitten: die Zeilen ab etwa"
    ).first.wait_for()
    page.get_by_label("Von beschädigten Dateien nehmen, was da ist").uncheck()
    page.get_by_text("ist beschädigt. Der Schalter „Von beschädigten Dateien").wait_for()


def test_an_estimate_that_could_not_be_had_is_asked_again(
    open_page: Any, photo: Photo, tmp_path: Path
) -> None:
    page, refused = open_page(), []

    def refuse(route: Any) -> None:
        if refused:
            route.continue_()
        else:
            refused.append(route)
            route.fulfill(status=503, json={"error": "Later."})

    page.route("**/foresee", refuse)
    page.set_input_files("#files", photo(tmp_path / "a.png"))
    page.get_by_text("Later.").wait_for()
    page.get_by_text("→ 96 × 64 pixels, about").wait_for()
    page.select_option("#size", "own")
    page.fill("#factor", "100")
    page.press("#factor", "Tab")
    page.get_by_text("“Factor” is a number above 0, at most 64.").wait_for()


def test_the_slider_moves_by_mouse_and_keys_and_the_image_by_both(
    open_page: Any, tmp_path: Path
) -> None:
    page = open_page()
    enlarge(page, small_photo(tmp_path / "photo.jpg"))
    page.get_by_role("button", name="Compare: photo.jpg").click()
    page.wait_for_load_state("networkidle")
    box = page.locator("#canvas").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    half = page.screenshot()
    keep(page, "compare")
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - box["width"] / 4, middle[1], steps=4)
    page.mouse.up()
    assert abs(float(page.input_value("#split")) - 25) <= 1
    page.wait_for_timeout(100)
    assert page.screenshot() != half
    page.focus("#split")
    page.keyboard.press("ArrowRight")
    assert abs(float(page.input_value("#split")) - 26) <= 1
    page.keyboard.press("End")
    assert float(page.input_value("#split")) == 100

    page.focus("#canvas")
    seen = set()
    for key in ("1", "+", "ArrowLeft", "ArrowUp", "-", "0"):
        page.keyboard.press(key)
        page.wait_for_timeout(200)
        seen.add(page.locator("#canvas").screenshot())
    assert len(seen) == 6
    page.mouse.move(*middle)
    page.mouse.wheel(0, -600)
    page.wait_for_timeout(300)
    assert page.locator("#canvas").screenshot() not in seen
    page.focus("#canvas")
    page.keyboard.press("0")
    page.focus("#split")
    page.keyboard.press("Home")
    page.check("#risk")
    page.wait_for_load_state("networkidle")
    keep(page, "risk")
    words = page.inner_text("#words")
    assert words.startswith(("No invented", "Some edges", "Some structure"))
    assert "% of the edges" in words or "10,000 edges" in words
    assert words.endswith("Orange: edges that contradict the image. Green: finer than it can show.")
    check_accessible(page)
    page.keyboard.press("Escape")
    assert page.is_hidden("#viewer")


def test_styles_side_by_side(open_page: Any, tmp_path: Path) -> None:
    page = open_page()
    enlarge(page, small_photo(tmp_path / "photo.jpg", 160))
    for style in ("Sharp", "Restore"):
        page.get_by_role("radio", name=style).check()
        page.click("#start:enabled")
    page.get_by_role("button", name="Compare").nth(2).click()
    boxes = page.locator("#shown input")
    assert boxes.count() == 3
    for number in range(3):
        boxes.nth(number).check()
    page.wait_for_load_state("networkidle")
    page.mouse.move(600, 400)
    page.mouse.wheel(0, -500)
    page.wait_for_timeout(500)
    keep(page, "side_by_side")
    assert page.is_disabled("#split") and page.is_hidden("#split")


def test_labels_of_four_side_by_side_stay_in_their_panes(open_page: Any, tmp_path: Path) -> None:
    page = open_page(viewport={"width": 800, "height": 700})
    page.add_init_script(
        """const fill = CanvasRenderingContext2D.prototype.fillText; window.texts = [];
        CanvasRenderingContext2D.prototype.fillText = function (text, x, y, room) {
            const width = Math.min(room ?? Infinity, this.measureText(text).width);
            window.texts.push([x, y - 20, x + width, y, this.canvas.width, this.canvas.height]);
            fill.call(this, text, x, y, room);
        }"""
    )
    page.reload()
    enlarge(page, small_photo(tmp_path / "photo.jpg", 160))
    for style in ("Sharp", "Restore", "Faithful", "Texture"):
        page.get_by_role("radio", name=style).check()
        page.click("#start:enabled")
    page.get_by_role("button", name="Compare").nth(4).click()
    boxes = page.locator("#shown input")
    for number in range(3):
        boxes.nth(number).check()
    page.check("#risk")
    for size in ((800, 700), (390, 780), (1500, 400)):
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.wait_for_load_state("networkidle")
        page.click("#in")
        page.wait_for_timeout(300)
        keep(page, f"four_{size[0]}")
        canvas = page.locator("#canvas")
        wide, tall = canvas.evaluate("(c) => [c.width, c.height]")
        said = [text for text in page.evaluate("window.texts") if text[4:] == [wide, tall]]
        drawn = {tuple(text[:4]) for text in said}
        assert len(drawn) >= 4
        for one, two in itertools.combinations(drawn, 2):
            apart = one[2] <= two[0] or two[2] <= one[0] or one[3] <= two[1] or two[3] <= one[1]
            assert apart, (size, one, two)
        assert max(text[2] for text in drawn) <= wide
        high = page.locator("#canvas").bounding_box()["height"]
        assert high > 0.4 * size[1], (size, high)


def test_cancel_reload_and_two_tabs(open_page: Any, photo: Photo, tmp_path: Path) -> None:
    page, other = open_page(), open_page()
    page.select_option("#size", "own")
    page.fill("#factor", "8")
    page.press("#factor", "Tab")
    enlarge(page, photo(tmp_path / "large.png", 200, 150))
    for one in (page, other):
        one.get_by_text("being made").wait_for()
    page.reload()
    page.get_by_text("being made").wait_for()
    other.get_by_role("button", name="Cancel").click()
    for one in (page, other):
        one.get_by_text("cancelled").wait_for()
        assert one.get_by_role("heading", name="large.png").count() == 1
        assert one.locator(".job").count() == 1
    page.get_by_role("button", name="Remove: large.png", exact=True).click()
    other.get_by_text("None yet.").wait_for()


def test_many_are_cancelled_and_removed_at_once(
    open_page: Any, photo: Photo, tmp_path: Path
) -> None:
    page, other = open_page(), open_page()
    page.select_option("#size", "own")
    page.fill("#factor", "8")
    page.press("#factor", "Tab")
    files = [photo(tmp_path / f"{number}.png", 320, 240) for number in range(12)]
    page.set_input_files("#files", files)
    page.get_by_role("button", name="Enlarge 12 images").click()
    other.locator(".job").nth(11).wait_for()
    # Before an answer is there it is seen, and one request is sent for all of them.
    held: list[Any] = []

    def hold(route: Any) -> None:
        if route.request.method == "GET":
            route.continue_()
        else:
            held.append(route)

    page.route(re.compile(r"/jobs/cancel$|/images$"), hold)
    page.click("#stop")
    assert page.get_by_text("being cancelled").count() == 12 and page.is_hidden("#stop")
    assert len(held) == 1
    held.pop().continue_()
    for one in (page, other):
        one.wait_for_function("() => document.body.innerText.match(/: cancelled/g)?.length === 12")
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("#clear")
    assert page.locator(".card").count() == 0 and page.is_visible("#empty")
    page.wait_for_timeout(100)
    assert len(held) == 1
    held.pop().fulfill(status=503, json={"error": "Later."})  # what is there is shown again
    page.locator(".card").nth(11).wait_for()
    page.unroute_all()
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("#clear")
    other.get_by_text("None yet.").wait_for()


def test_what_failed_or_was_cancelled_is_done_again_by_mouse_and_by_keys(
    open_page: Any, server: Server, photo: Photo, tmp_path: Path
) -> None:
    page = open_page()
    page.select_option("#size", "own")
    page.fill("#factor", "8")
    page.press("#factor", "Tab")
    enlarge(page, photo(tmp_path / "large.png", 120, 90))
    page.get_by_text("120 × 90 → 960 × 720 pixels").wait_for()
    page.get_by_text("being made").wait_for()
    page.get_by_text("left for all.").wait_for()
    again = page.get_by_role("button", name="Again: large.png")
    assert again.is_hidden()
    for worker in server.workers():
        worker.kill()
    page.get_by_text("not done").wait_for()
    assert page.get_by_text("Try again, or a smaller size.").is_visible()
    keep(page, "failed")
    again.click()
    page.get_by_text("being made").wait_for()
    page.get_by_role("button", name="Cancel: large.png").click()
    page.get_by_text("cancelled").wait_for()
    again.focus()
    page.keyboard.press("Enter")
    page.get_by_text("960 × 720: done").wait_for()
    assert again.is_hidden() and page.locator(".job").count() == 1


def test_german_dark_on_a_phone_by_keyboard(open_page: Any, photo: Photo, tmp_path: Path) -> None:
    page = open_page(
        locale="de-DE",
        color_scheme="dark",
        viewport={"width": 360, "height": 740},
        reduced_motion="reduce",
    )
    page.get_by_role("heading", name="Bilder oder Videos hierher ziehen").wait_for()
    enlarge(page, photo(tmp_path / "klein.png", 40, 30))
    page.get_by_text("fertig").wait_for()
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 360, wide
    keep(page, "phone")
    check_accessible(page)
    reached = set()
    page.evaluate("document.activeElement.blur()")
    for _ in range(25):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.innerText"))
    assert {"files", "folder", "size", "format", "zip", "clear", "Vergleichen"} <= reached
    page.get_by_role("button", name="English").click()
    page.get_by_role("heading", name="Drop images or videos here").wait_for()
    assert page.get_by_role("button", name="Compare").count() == 1


def test_the_focus_goes_on_by_keyboard_when_a_button_has_had_its_use(
    open_page: Any, photo: Photo, tmp_path: Path
) -> None:
    page = open_page()

    def focus() -> str:
        page.wait_for_timeout(100)  # a browser moves the focus off what vanished when it paints
        has: str = page.evaluate(
            "(document.activeElement.id || document.activeElement.className"
            " || document.activeElement.innerText)"
        )
        return has

    def press(name: str) -> str:
        page.get_by_role("button", name=name).first.focus()
        page.keyboard.press("Enter")
        return focus()

    page.set_input_files("#files", [photo(tmp_path / f"{n}.png", 200, 150) for n in "abc"])
    page.locator("#start:enabled", has_text="3 images").wait_for()
    for style in ("faithful", "sharp"):
        page.get_by_role("radio", name=style).check()
        page.locator("#start:enabled").focus()
        page.keyboard.press("Enter")
        page.locator(".job:focus", has_text=style).wait_for()
        page.locator("#start:disabled").wait_for()
    assert press("Cancel: c.png, ×4, Sharp") == "job"
    page.get_by_role("button", name="Again: c.png").wait_for()
    assert press("Again: c.png") == "job"
    page.keyboard.press("Tab")  # on to what can be done with it
    assert focus() not in ("", "body")
    page.locator(".what.good").nth(5).wait_for()
    assert press("Remove: c.png, ×4, Sharp") == "card"
    assert press("Remove: c.png") == "images"
    page.once("dialog", lambda dialog: dialog.accept())
    assert press("Remove all") == "images"


def small_video(path: Path, frames: int = 12) -> Path:
    """A photograph that moves past."""
    av = pytest.importorskip("av")
    pixels = pyvips.Image.thumbnail(str(PHOTO), 128).numpy()[..., :3]
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=12, pix_fmt="yuv420p")
        stream.width, stream.height = 64, 48
        for number in range(frames):
            part = np.ascontiguousarray(pixels[16:64, number * 4 : number * 4 + 64])
            file.mux(stream.encode(av.VideoFrame.from_ndarray(part)))
        file.mux(stream.encode())
    return path


def test_a_video_is_noticed_enlarged_compared_and_downloaded(
    open_page: Any, tmp_path: Path
) -> None:
    page = open_page()
    page.select_option("#size", "2")
    page.set_input_files("#files", small_video(tmp_path / "clip.mp4"))
    page.get_by_text("64 × 48 → 128 × 96 pixels").wait_for()
    assert "Video of 12 frames (1 s)." in page.inner_text("#images")
    page.click("#start:enabled")
    page.get_by_text("done").wait_for()
    keep(page, "video")
    page.get_by_role("button", name="Compare: clip.mp4").click()
    page.wait_for_load_state("networkidle")
    assert page.is_enabled("#risk")
    page.keyboard.press("Escape")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download: clip.mp4").click()
    assert download.value.suggested_filename == "clip_x2.mp4"
    made = survey(download.value.path())
    assert made.size == (96, 128) and made.frames == 12


def test_restore_has_a_dial_and_images_fit_a_print(open_page: Any, tmp_path: Path) -> None:
    page = open_page()
    assert page.is_hidden("#strength")
    page.get_by_role("radio", name="Restore").check()
    page.focus("#strength")
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    assert page.inner_text("#strength-words") == "50%: between both"
    page.set_input_files("#files", small_photo(tmp_path / "photo.jpg", 64))
    page.get_by_text("64 × 36 → 256 × 144 pixels").wait_for()
    keep(page, "dial")
    page.click("#start:enabled")
    page.get_by_text("×4, Restore 50%, 256 × 144: done").wait_for()
    page.focus("#strength")
    page.keyboard.press("End")
    page.click("#start:enabled")  # another strength is another job
    page.get_by_text("×4, Restore 100%, 256 × 144: done").wait_for()
    page.get_by_role("radio", name="Faithful").check()
    page.select_option("#size", "1181x1772")  # on its side, as the image lies
    page.get_by_text("64 × 36 → 1,772 × 997 pixels").wait_for()
    page.select_option("#size", "3840x2160")
    page.get_by_text("64 × 36 → 3,840 × 2,160 pixels").wait_for()


def test_more_options_show_where_they_apply_and_by_keyboard(
    open_page: Any, photo: Photo, tmp_path: Path
) -> None:
    page = open_page()
    page.set_input_files("#files", photo(tmp_path / "a.png"))
    page.get_by_text("24 × 16 → 96 × 64 pixels").wait_for()
    assert page.is_hidden("#model") and page.is_hidden("#guard")
    page.focus("#more summary")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "model"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "sharpness"
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    assert page.inner_text("#sharpness-words") == "40%" and page.is_hidden("#guard")
    page.click("#start:enabled")
    page.get_by_text("×4, Automatic, sharpened 40%, 96 × 64: done").wait_for()
    page.get_by_role("radio", name="Sharp").check()
    assert page.inner_text("#sharpness-words") == "25%"  # its own
    page.get_by_role("radio", name="Texture").check()
    assert page.inner_text("#sharpness-words") == "0%"
    page.focus("#guard")
    page.keyboard.press("Space")
    page.click("#start:enabled")
    page.get_by_text("×4, Texture, guarded, 96 × 64: done").wait_for()
    page.select_option("#model", "restore_x4_texture")
    assert page.is_hidden("#styles") and page.is_visible("#guard") and page.is_hidden("#strength")
    keep(page, "more")
    page.select_option("#model", "fast_x4")
    assert page.is_hidden("#guard")
    page.click("#start:enabled")
    page.get_by_text("×4, fast_x4, 96 × 64: done").wait_for()
    check_accessible(page)
    page.get_by_role("button", name="Deutsch").click()
    page.get_by_text("×4, Textur, mit Schutz, 96 × 64: fertig").wait_for()
    assert page.input_value("#model") == "fast_x4"
    for words in ("Weitere Optionen", "Netz", "Das Ergebnis schärfen"):
        assert page.get_by_text(words, exact=True).is_visible()


def test_two_fingers_zoom_and_the_whole_screen_is_taken(open_page: Any, tmp_path: Path) -> None:
    page = open_page(has_touch=True, viewport={"width": 390, "height": 780})
    enlarge(page, small_photo(tmp_path / "photo.jpg"))
    page.get_by_role("button", name="Compare: photo.jpg").click()
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(300)
    keep(page, "compare_phone")
    whole, box = page.locator("#canvas").screenshot(), page.locator("#canvas").bounding_box()
    touch = page.context.new_cdp_session(page)

    def fingers(kind: str, *places: float) -> None:
        points = [
            {"x": box["x"] + box["width"] * at, "y": box["y"] + box["height"] / 2, "id": number}
            for number, at in enumerate(places)
        ]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    fingers("touchStart", 0.3)
    fingers("touchStart", 0.3, 0.7)
    for step in range(1, 6):
        fingers("touchMove", 0.3 - step / 25, 0.7 + step / 25)
    fingers("touchEnd")
    page.wait_for_timeout(300)
    near = page.locator("#canvas").screenshot()
    assert near != whole and page.evaluate("window.visualViewport.scale") == 1
    assert float(page.input_value("#split")) == 50
    page.get_by_role("button", name="Whole").click()
    page.wait_for_timeout(300)
    assert page.locator("#canvas").screenshot() == whole
    fingers("touchStart", 0.5)  # one finger on the line moves it
    fingers("touchMove", 0.3)
    fingers("touchMove", 0.2)
    fingers("touchEnd")
    assert abs(float(page.input_value("#split")) - 20) <= 2
    page.get_by_role("button", name="Full screen").click()
    page.wait_for_timeout(1000)
    assert page.evaluate("document.fullscreenElement?.id") == "stage"
    full = page.locator("#canvas").screenshot()
    page.keyboard.press("+")  # the button has the focus
    page.wait_for_timeout(300)
    assert page.locator("#canvas").screenshot() != full
    page.focus("#split")
    page.keyboard.press("ArrowRight")
    assert abs(float(page.input_value("#split")) - 21) <= 2
    page.get_by_role("button", name="Close").click()
    page.wait_for_timeout(1000)
    assert page.evaluate("document.fullscreenElement === null") and page.is_hidden("#viewer")


def test_what_the_server_says_is_said_in_german(open_page: Any, tmp_path: Path) -> None:
    page = open_page(locale="de-DE")
    for name, content in {"leer.png": b"", "kaputt.png": b"no image", "ab.mp4": b"1234"}.items():
        (tmp_path / name).write_bytes(content)
    with zipfile.ZipFile(tmp_path / "zwei.zip", "w") as packed:
        pyvips.Image.thumbnail(str(PHOTO), 200).jpegsave(str(tmp_path / "a.jpg"), Q=20)
        packed.write(tmp_path / "a.jpg", "a.jpg")
        packed.writestr("unten/kaputt.tif", b"no image")
    names = ("leer.png", "kaputt.png", "ab.mp4", "zwei.zip")
    page.set_input_files("#files", [tmp_path / name for name in names])
    page.get_by_text("'leer.png' ist leer (0 Byte).").wait_for()
    wrong = page.get_by_text("'kaputt.png' ist kein Bild (in")
    wrong.wait_for()
    assert wrong.bounding_box()["width"] > 600
    page.get_by_text("'kaputt.tif' ist kein Bild (in").wait_for()
    page.get_by_text("'ab.mp4' ist beschädigt oder kein Video").wait_for()
    page.click("#start:enabled")
    page.get_by_text("fertig").wait_for()
    page.get_by_text("Sieht nach JPEG mit Qualität etwa 20").wait_for()
    english = re.compile(r"looks|converted|The |cannot", re.IGNORECASE)
    assert not english.search(page.inner_text("#images")), page.inner_text("#images")
    keep(page, "german")


@pytest.mark.slow
def test_a_result_of_100_megapixels_is_shown_to_its_pixels(open_page: Any, tmp_path: Path) -> None:
    page = open_page()
    page.set_default_timeout(900_000)  # two minutes of computing, on a machine that does more
    page.select_option("#size", "own")
    page.fill("#factor", "1")
    page.press("#factor", "Tab")
    # 13440 x 7560
    pyvips.Image.new_from_file(str(PHOTO)).resize(14).jpegsave(str(tmp_path / "huge.jpg"))
    enlarge(page, tmp_path / "huge.jpg")
    page.get_by_role("button", name="Compare").click()
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1000)
    # The whole is there: no pixel within it has the colour of the empty canvas.
    empty = page.evaluate(
        """() => { const c = document.querySelector("#canvas"), high = c.width * 7560 / 13440;
            const box = [1, (c.height - high) / 2 + 2, c.width - 2, high - 4].map(Math.round);
            const data = c.getContext("2d").getImageData(...box).data;
            let empty = 0; for (let i = 3; i < data.length; i += 4) empty += data[i] === 0;
            return empty; }"""
    )
    assert not empty
    page.get_by_role("button", name="100 %").click()
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1000)
    keep(page, "huge")
    tiles = page.evaluate(
        "performance.getEntriesByType('resource').filter((e) => e.name.includes('/view/')).length"
    )
    assert 2 < tiles < 120  # of 400 of the finest level alone


def test_the_page_goes_on_when_the_server_does(
    serve: Any, browser: Any, photo: Photo, tmp_path: Path
) -> None:
    with serve(tmp_path / "again") as server:
        port = server.address.rstrip("/").rpartition(":")[2]
        page = browser.new_page(locale="en-GB")
        page.set_default_timeout(120_000)
        page.goto(server.address)
        page.set_input_files("#files", photo(tmp_path / "a.png"))
        page.click("#start:enabled")
        page.get_by_text("done").wait_for()
        server.kill()
        page.get_by_text("The server does not answer").wait_for()
    with serve(tmp_path / "again", "--port", port):
        page.locator("#offline").wait_for(state="hidden")
        assert page.get_by_role("button", name="Compare").count() == 1
        page.close()
