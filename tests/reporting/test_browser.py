from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.reporting.conftest import READY
from wstrack.reporting.labels import printable
from wstrack.runs.run import Run

pytestmark = pytest.mark.slow

SOURCE = "Bokeh.documents[0].roots().flatMap((root) => [...root.references()]).find((model) => model.data?.layer)"
MARKED = "Bokeh.documents[0].roots().flatMap((root) => [...root.references()]).find((model) => model.data?.step)"
# Every canvas of the page, through the shadow trees, and how many of its pixels are painted, or are of one grey.
PAINTED = """(grey) => {
  const found = []
  const walk = (node) => {
    for (const child of node.querySelectorAll("*")) {
      if (child.tagName === "CANVAS" && child.classList.contains("bk-layer") && child.width) found.push(child)
      if (child.shadowRoot) walk(child.shadowRoot)
    }
  }
  walk(document)
  return found.map((canvas) => {
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data
    const fits = (i) => grey ? pixels[i] === 255 && pixels.slice(i - 3, i).every((one) => one === grey) : pixels[i]
    return pixels.filter((value, i) => i % 4 === 3 && fits(i)).length
  })
}"""
DEEP = """(selector) => {
  const walk = (node) => [...node.querySelectorAll(selector),
    ...[...node.querySelectorAll("*")].flatMap((child) => child.shadowRoot ? walk(child.shadowRoot) : [])]
  return walk(document).map((node) => node.textContent)
}"""


def test_every_figure_is_painted(opened: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = opened(make_run())
    painted = [pixels for pixels in page.evaluate(PAINTED) if pixels]
    assert len(painted) == 8  # the heat map and its strip, the curves, the plane, the tree and its rows, two of k
    assert all(pixels > 500 for pixels in painted)
    assert len(page.evaluate(DEEP, ".slick-row")) == 12


def point_of(page: Any, layer: int) -> tuple[float, float]:
    """Where in the window a layer stands on the plane."""
    page.locator("#plane figure").scroll_into_view_if_needed()
    x, y = page.evaluate(f"""() => {{
        const source = {SOURCE}
        const plane = [...Bokeh.index].find((view) => document.querySelector("#plane").contains(view.el))
        const box = plane.canvas_view.el.getBoundingClientRect()
        return [box.x + plane.frame.x_scale.compute(source.data.component_1[{layer}]),
                box.y + plane.frame.y_scale.compute(source.data.component_2[{layer}])]
    }}""")
    return x, y


def test_the_table_has_room_for_the_names_of_layers_and_shows_the_whole(
    opened: Callable[..., Any], make_run: Callable[..., Run]
) -> None:
    names = [f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_A" for layer in range(12)]
    page = opened(make_run([*names[:-1], names[-1] + "x" * 99]))
    cells = """() => {
      const walk = (node) => [...node.querySelectorAll(".slick-cell.l1"),
        ...[...node.querySelectorAll("*")].flatMap((child) => child.shadowRoot ? walk(child.shadowRoot) : [])]
      return walk(document).map((cell) => [cell.scrollWidth <= cell.clientWidth, cell.querySelector("[title]").title])
    }"""
    found = page.evaluate(cells)
    assert [fits for fits, _ in found] == [True] * 11 + [False]
    assert [title for _, title in found] == [*names[:-1], names[-1] + "x" * 99]


def test_a_layer_chosen_on_the_plane_is_chosen_in_the_table(
    opened: Callable[..., Any], make_run: Callable[..., Run]
) -> None:
    page = opened(make_run())
    page.mouse.click(*point_of(page, 7))
    page.wait_for_function(f"{SOURCE}.selected.indices.length")
    assert page.evaluate(f"{SOURCE}.selected.indices") == [7]
    assert page.evaluate(DEEP, ".slick-cell.selected.l1") == ["block.7.weight"]


def chosen(page: Any, layers: list[int]) -> None:
    """Waits until exactly these layers are chosen."""
    page.wait_for_function(
        f"JSON.stringify([...{SOURCE}.selected.indices]) === '{json.dumps(layers).replace(' ', '')}'"
    )


def test_a_row_of_the_heat_map_chooses_its_layer(opened: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = opened(make_run())
    page.locator("#heatmap figure").scroll_into_view_if_needed()
    box = page.locator("#heatmap figure").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 58 + 24 * 4 + 12)
    chosen(page, [4])
    assert page.locator("#chosen").text_content() == "1 of 12 layers chosen"


def test_a_cluster_is_chosen_by_its_name_and_released_by_escape(
    opened: Callable[..., Any], make_run: Callable[..., Run]
) -> None:
    page = opened(make_run())
    strengths = """() => Bokeh.documents[0].roots().flatMap((root) => [...root.references()])
      .filter((model) => model.tags?.[1] === "line_alpha" && model.glyph.line_color)
      .map((model) => [model.tags[0], model.glyph.line_alpha.value ?? model.glyph.line_alpha])"""
    button = page.locator("#heatmap button[data-cluster='2']")
    button.click()
    chosen(page, [4, 5, 6, 7])
    assert page.evaluate(DEEP, ".slick-cell.selected.l1") == [f"block.{layer}.weight" for layer in (4, 5, 6, 7)]
    assert {tuple(pair) for pair in page.evaluate(strengths)} == {(1, 0.15), (2, 1), (3, 0.15)}
    assert button.get_attribute("aria-pressed") == "true"
    assert page.locator("#cluster").input_value() == "2"
    page.keyboard.press("Escape")
    chosen(page, [])
    assert {tuple(pair) for pair in page.evaluate(strengths)} == {(1, 1), (2, 1), (3, 1)}
    assert button.get_attribute("aria-pressed") == "false"


def test_the_keyboard_alone_chooses_by_cluster_name_and_group(
    opened: Callable[..., Any], make_run: Callable[..., Run]
) -> None:
    page = opened(make_run(), group=r"block\.(\d)$|block\.\d")
    page.locator("#search").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    chosen(page, [8, 9, 10, 11])
    page.locator("#search").focus()
    page.keyboard.type("k.1")
    chosen(page, [10, 11])
    page.locator("#search").fill("nothing has this name")
    chosen(page, [])
    assert page.locator("#chosen").text_content() == "no layer fits"
    page.locator("#groups button").nth(1).press("Enter")
    chosen(page, [1, 10, 11])
    assert page.locator("#search").input_value() == ""


def test_a_finding_marks_its_steps_and_layers(opened: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    run = make_run()
    run.series["rwc"].iloc[12] *= 30
    run.series["rwc"].iloc[15:, 3] = 1e-12
    page = opened(run)
    page.get_by_text("spikes together").locator("..").locator("a[data-steps]").click()
    page.wait_for_function(f"JSON.stringify({MARKED}.data.step) === '[130]'")
    page.locator("#findings li", has_text="stopped").locator("a[data-steps]").click()
    chosen(page, [3])
    page.wait_for_function(f"{MARKED}.data.step[0] !== 130")
    page.locator("#clear").click()
    page.wait_for_function(f"{MARKED}.data.step.length === 0")
    chosen(page, [])


def test_the_scale_is_switched_between_log_and_linear(opened: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = opened(make_run())
    scales = """() => Bokeh.documents[0].roots().flatMap((root) => [...root.references()])
      .filter((model) => model.glyph?.type === "Image" || model.y_scale?.type === "LogScale")
      .map((model) => model.glyph?.color_mapper.type ?? String(model.visible)).sort()"""
    assert page.evaluate(scales) == ["LogColorMapper", "LogColorMapper", "true"]
    page.locator("#scale").select_option("linear")
    page.wait_for_function(READY)
    assert page.evaluate(scales) == ["LinearColorMapper", "LinearColorMapper", "false"]
    assert len([pixels for pixels in page.evaluate(PAINTED) if pixels > 500]) == 8


def test_the_cells_of_a_heat_map_have_the_colours_of_the_scale(
    opened: Callable[..., Any], make_run: Callable[..., Run]
) -> None:
    page = opened(make_run())
    green = """() => [...Bokeh.index.query((view) => view.model.glyph?.type === "Image")].map(({ glyph }) => {
      const [cells] = glyph.image_data
      return cells.getContext("2d").getImageData(0, 0, cells.width, cells.height).data.filter((_, i) => i % 4 === 1)
    }).map((values) => values.reduce((sum, value) => sum + value) / values.length)"""
    logarithmic = page.evaluate(green)
    assert len(logarithmic) == 2
    page.locator("#scale").select_option("linear")
    # Of values over two decades most are near the least on a linear scale, which is the darkest.
    page.wait_for_function(f"({green})().every((green) => green < {0.6 * min(logarithmic)})")
    page.locator("#scale").select_option("log")
    page.wait_for_function(f"JSON.stringify(({green})()) === '{json.dumps(logarithmic).replace(' ', '')}'")


def test_settings_side_by_side_choose_layers_too(opened: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    runs = [make_run(name=f"{task} {seed}", seed=seed, task=task) for task in ("easy", "hard") for seed in (0, 1)]
    for run in runs[2:]:
        run.series["rwc"] *= 3
    page = opened(runs, compare="task")
    assert len([pixels for pixels in page.evaluate(PAINTED) if pixels > 300]) == 10
    page.locator("#compare figure").last.scroll_into_view_if_needed()
    x, y = page.evaluate(f"""() => {{
        const plot = [...Bokeh.index].find((view) => view.model.y_scale?.type === "LogScale" &&
          view.model.renderers.some((renderer) => renderer.glyph.type === "Segment"))
        const box = plot.canvas_view.el.getBoundingClientRect()
        return [box.x + plot.frame.x_scale.compute(5), box.y + plot.frame.y_scale.compute({SOURCE}.data.ratio_1[5])]
    }}""")
    page.mouse.click(x, y)
    chosen(page, [5])


def test_print_drops_the_tools_and_opens_what_is_folded(
    opened: Callable[..., Any], make_run: Callable[..., Run]
) -> None:
    page = opened(make_run())
    opened_now = "[...document.querySelectorAll('details')].filter((one) => one.open).length"
    every = page.locator("details").count()
    assert page.locator("#tools").is_visible()
    assert page.evaluate(opened_now) == 0
    page.emulate_media(media="print")
    page.wait_for_function(f"{opened_now} === {every}")
    assert not page.locator("#tools").is_visible()
    page.emulate_media(media="screen")
    page.wait_for_function(f"{opened_now} === 0")
    zooms = """[...document.querySelectorAll('#heatmap figure > :not(figcaption)')].map((part) => part.style.zoom)"""
    page.set_viewport_size({"width": 3840, "height": 900})
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(opened_now) == every
    assert 0.3 < float(page.evaluate(zooms)[0]) < 1
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(opened_now) == 0
    assert page.evaluate(zooms) == [""]


def test_a_link_into_what_is_folded_opens_it(opened: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = opened(make_run())
    assert not page.locator("#k figure").is_visible()
    page.locator("nav a[href='#k']").click()
    assert page.locator("#k figure").is_visible()
    page.locator("#verdict .term").first.click()
    assert page.locator("#term-cluster").is_visible()
    assert page.locator("nav").bounding_box()["y"] < 10  # and the contents are still in sight
    page.reload()
    page.wait_for_function(READY)
    assert page.locator("#term-cluster").is_visible()
    assert not page.locator("#k figure").is_visible()


def test_the_first_screen_is_a_summary(opened: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = opened(make_run(), width=1920)
    heat, verdict, findings = (
        page.locator(part).bounding_box() for part in ("#heatmap figure", "#verdict", "#findings")
    )
    assert heat["x"] + heat["width"] < verdict["x"] == findings["x"]
    assert max(heat["y"] + heat["height"], verdict["y"] + verdict["height"]) < 900
    assert heat["width"] > 1000
    page.set_viewport_size({"width": 768, "height": 900})
    heat, verdict, findings = (page.locator(part).bounding_box() for part in ("#heatmap", "#verdict", "#findings"))
    assert verdict["y"] < heat["y"] < findings["y"]
    assert heat["y"] < 400


def test_the_summary_is_copied_as_text(opened: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = opened(make_run())
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")  # as in a tracker's frame
    page.locator("#copy").click()
    page.wait_for_function("document.querySelector('#copied').textContent === 'copied'")
    page.locator("#search").focus()
    page.keyboard.press("Control+V")
    pasted = page.locator("#search").input_value()
    assert pasted.startswith("a run")
    assert "3 clusters of layers, stable" in pasted
    assert "The layers form 3 clusters" in pasted
    assert pasted.count("see the") == 0


def test_fields_narrow_the_steps_and_clear_lets_go(opened: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = opened(make_run())
    extent = """(() => {
      const models = Bokeh.documents[0].roots().flatMap((root) => [...root.references()])
      const { x_range } = models.find((model) => model.x_range?.bounds)
      return [x_range.start, x_range.end]
    })()"""
    whole = page.evaluate(extent)
    page.locator("#from").fill("100")
    page.locator("#to").fill("200")
    assert page.evaluate(extent) == [100, 200]
    page.locator("#to").fill("50")  # ends before it begins: the last that made sense stays
    assert page.evaluate(extent) == [100, 200]
    page.locator("#clear").click()
    assert page.evaluate(extent) == whole


def test_many_runs_make_no_long_page(opened: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = opened([make_run(name=f"seed {seed}", seed=seed, lr=seed) for seed in range(200)])
    height = "document.documentElement.scrollHeight"
    folded = page.evaluate(height)
    page.locator("nav a[href='#runs']").click()
    assert page.locator("#runs tbody tr").count() == 200
    assert folded < page.evaluate(height) < folded + 900


def test_a_branch_of_the_tree_chooses_its_layers(opened: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = opened(make_run())
    page.get_by_text("The branches that stand apart, and the largest of the others").click()
    button = page.locator("#tree button").first
    layers = json.loads(button.get_attribute("data-layers"))
    assert str(len(layers)) == button.inner_text()
    button.click()
    chosen(page, sorted(layers))
    page.keyboard.press("Escape")
    chosen(page, [])
    page.locator("#tree figure").scroll_into_view_if_needed()
    dot = page.evaluate("""() => {
      const [figures] = [...Bokeh.index].filter((view) => document.querySelector("#tree").contains(view.el))
      const [tree] = figures.child_views
      const { height, place, first, last } = Bokeh.documents[0].get_model_by_name("branches").data
      const box = tree.canvas_view.el.getBoundingClientRect()
      return [box.x + tree.frame.x_scale.compute(height[0]), box.y + tree.frame.y_scale.compute(place[0]),
              last[0] - first[0]]
    }""")
    page.mouse.click(dot[0], dot[1])
    page.wait_for_function(f"{SOURCE}.selected.indices.length === {dot[2]}")


def test_the_bars_of_one_sample_choose_layers(opened: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = opened(make_run(samples=1))
    page.locator("#search").fill("block.1")
    chosen(page, [1, 10, 11])
    page.keyboard.press("Escape")
    chosen(page, [])
    assert page.locator("#from").count() == 0


def test_part_of_a_name_chooses_its_layers(opened: Callable[..., Any], make_run: Callable[..., Run]) -> None:
    page = opened(make_run())
    page.get_by_placeholder("part of a layer's name").fill("K.1")
    chosen(page, [1, 10, 11])
    page.get_by_placeholder("part of a layer's name").fill("")
    page.wait_for_function(f"{SOURCE}.selected.indices.length === 0")


def test_hostile_names_stay_text(opened: Callable[..., Any], hostile_run: Run) -> None:
    names = list(hostile_run.layers.index)
    page = opened(hostile_run)
    cells = page.evaluate(DEEP, ".slick-cell.l1")
    assert "<script>alert(1)</script>" in cells
    assert "{{ 7 * 7 }} <%= 7 * 7 %>" in cells
    assert "<b>kind</b>" in page.evaluate(DEEP, ".slick-cell.l2")
    assert page.evaluate(DEEP, "img, b, section script") == []
    page.locator("#heatmap figure").scroll_into_view_if_needed()
    box = page.locator("#heatmap figure").bounding_box()
    # A name that became an element would not be among the text.
    shown = f"(name) => ({DEEP})('[data-value]').includes(name)"
    for layer, name in enumerate(names):
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 58 + 24 * layer + 12)
        page.wait_for_function(shown, arg=printable(name))
    page.mouse.move(*point_of(page, 1))
    page.wait_for_function(shown, arg=names[1])
    assert page.evaluate(DEEP, "img, b, section script, [data-value] *") == []


def test_the_page_follows_the_readers_scheme_and_prints_in_light(
    opened: Callable[..., Any], make_run: Callable[..., Run]
) -> None:
    page = opened(make_run(), dark=True)
    colours = """() => {
      const axes = Bokeh.documents[0].roots().flatMap((root) => [...root.references()])
        .filter((model) => model.type.endsWith("Axis"))
      return [getComputedStyle(document.documentElement).backgroundColor, getComputedStyle(document.body).color,
              ...new Set(axes.map((axis) => axis.major_label_text_color))]
    }"""
    light = ["rgb(255, 255, 255)", "rgb(28, 28, 28)", "#4a4a4a"]
    dark = ["rgb(21, 21, 21)", "rgb(230, 230, 230)", "#c4c4c4"]
    assert page.evaluate(colours) == dark
    page.emulate_media(media="print")
    page.wait_for_function(f"(expected) => JSON.stringify(({colours})()) === JSON.stringify(expected)", arg=light)
    page.emulate_media(media="screen", color_scheme="light")
    page.wait_for_function(f"(expected) => JSON.stringify(({colours})()) === JSON.stringify(expected)", arg=light)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"(expected) => JSON.stringify(({colours})()) === JSON.stringify(expected)", arg=dark)


def test_what_is_printed_at_once_from_a_dark_screen_has_dark_labels(
    opened: Callable[..., Any], make_run: Callable[..., Run]
) -> None:
    page = opened(make_run(), dark=True)
    ink_on_dark = 0xC4
    assert sum(count > 20 for count in page.evaluate(PAINTED, ink_on_dark)) >= 3  # heat map, curves, plane
    page.evaluate("window.requestAnimationFrame = () => 0")  # a printer does not wait for the next frame
    page.evaluate("matchMedia('print').addEventListener('change', () => { window.told = true })")
    page.emulate_media(media="print")
    page.wait_for_function("window.told", polling=20)
    assert sum(page.evaluate(PAINTED, ink_on_dark)) == 0


@pytest.mark.parametrize("names", ["plain", "hostile"])
def test_no_width_needs_scrolling_sideways(
    opened: Callable[..., Any], make_run: Callable[..., Run], hostile_run: Run, names: str
) -> None:
    page = opened(hostile_run if names == "hostile" else make_run())
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    for width in (3840, 1100, 768, 360, 320):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function(READY)
        page.wait_for_function("width => document.documentElement.scrollWidth === width", arg=width)
    heights = "[...document.querySelectorAll('#clusters tr')].map((row) => row.offsetHeight)"
    assert max(page.evaluate(heights)) < 100
