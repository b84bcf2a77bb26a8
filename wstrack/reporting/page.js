// Runs once the figures are there; `source` holds the layers and what is chosen of them, for every view.
const get = (id) => document.getElementById(id)
const [text, cluster, group, scale] = ["search", "cluster", "group", "scale"].map(get)
const filters = [text, cluster, group].filter((control) => control)
const ends = [get("from"), get("to")].filter((field) => field) // none where there is one sample
const all = source.data.layer.map((_, i) => i)
let own = false // whether a choice comes from these controls, or from a figure

const choose = (indices, at = []) => {
  const focused = document.activeElement
  own = true
  source.selected.indices = indices
  own = false
  focused.focus({ preventScroll: true }) // the table takes the focus, and with it what is typed next
  marked.data = { step: at }
}
const filter = () => {
  const data = source.data
  const part = text.value.toLowerCase()
  const fits = (i) => data.layer[i].toLowerCase().includes(part) && (!cluster?.value || data.label[i] == cluster.value) &&
    (!group?.value || data.group_row[i] == group.value)
  choose(filters.some((control) => control.value) ? all.filter(fits) : [])
  tell()
}
const reset = () => filters.forEach((control) => { control.value = "" })
const tell = () => {
  const chosen = source.selected.indices.length
  const asked = filters.some((control) => control.value)
  get("chosen").textContent = chosen ? `${chosen} of ${all.length} layers chosen` : asked ? "no layer fits" : ""
  get("clear").disabled = !chosen && !asked && !marked.data.step.length && !ends.some((field) => field.value)
  for (const button of document.querySelectorAll("button[data-cluster], button[data-group]"))
    button.setAttribute("aria-pressed", button.dataset.cluster ? button.dataset.cluster === cluster?.value : button.dataset.group === group?.value)
}
const dim = () => {
  const there = new Set(source.selected.indices.map((i) => source.data.label[i]))
  for (const plot of Object.values(curves))
    for (const { tags: [label, property, usual], glyph } of plot.renderers)
      if (property) glyph[property] = !there.size || there.has(label) ? usual : usual * 0.15
}

for (const control of filters) control.addEventListener("input", filter)
scale?.addEventListener("input", () => {
  for (const [name, plot] of Object.entries(curves)) plot.visible = name === scale.value
  const [color_mapper, ticker, formatter] = scales[scale.value]
  for (const image of images) image.color_mapper = color_mapper
  bar.setv({ color_mapper, ticker, formatter })
})
const narrow = () => {
  const whole = steps.bounds // which grow with a run that goes on
  const [start, end] = ends.map((field, i) => field.value === "" ? whole[i] : Math.min(Math.max(field.valueAsNumber, whole[0]), whole[1]))
  if (start < end) steps.setv({ start, end }) // undefined, and so not less, where there are no fields
  tell()
}
for (const field of ends) field.addEventListener("input", narrow)
const clear = () => {
  reset()
  for (const field of ends) field.value = ""
  choose([])
  narrow()
}
get("clear").addEventListener("click", clear)
document.addEventListener("keydown", (event) => { if (event.key === "Escape") clear() })
document.addEventListener("click", (event) => {
  const { cluster: c, group: g, layers, steps: at } = event.target.closest("[data-cluster], [data-group], [data-layers]")?.dataset ?? {}
  if (layers) {
    reset()
    choose(JSON.parse(layers), JSON.parse(at))
    tell()
  } else if (c || g) {
    const [control, value] = c ? [cluster, c] : [group, g]
    const again = control.value === value
    reset()
    control.value = again ? "" : value
    filter()
  }
})
source.selected.connect(source.selected.properties.indices.change, () => {
  if (!own) { reset(); marked.data = { step: [] } }
  dim()
  tell()
})
tell()

// What Bokeh leaves without a name, or to the pointer alone.
const deep = (root, selector) => [...root.querySelectorAll("*")].flatMap((one) =>
  [...(one.matches(selector) ? [one] : []), ...(one.shadowRoot ? deep(one.shadowRoot, selector) : [])])
const name = (one, role, label) => { one.role = role; one.ariaLabel = label }
for (const figure of document.querySelectorAll("figure"))
  for (const canvas of deep(figure, ".bk-events")) name(canvas, "img", figure.ariaLabel)
const table = get("layers").querySelector(".wide")
for (const inner of deep(table, "[tabindex]")) inner.tabIndex = -1
for (const rows of deep(table, ".slick-viewport-top.slick-viewport-left")) {
  rows.tabIndex = 0
  name(rows, "group", "The rows of the table")
}
for (const head of deep(table, ".slick-header-sortable")) {
  head.tabIndex = 0
  name(head, "button", `Sort by ${head.textContent}`)
  head.addEventListener("keydown", (event) => { if (event.key === "Enter") head.click() })
}
table.addEventListener("keydown", (event) => { if (event.key === "Tab") event.stopPropagation() }, true) // or each cell is a stop

// What is folded came open, so that its figures are laid out by now.
const folded = [...document.querySelectorAll("details[data-folded]")]
const unfold = (id) => {
  const target = id ? get(decodeURIComponent(id)) : null
  target?.querySelector(":scope > details")?.setAttribute("open", "")
  for (let around = target; around; around = around.parentElement) if (around.localName === "details") around.open = true
}
for (const one of folded) one.open = false
unfold(location.hash.slice(1))
addEventListener("hashchange", () => unfold(location.hash.slice(1)))
document.addEventListener("click", (event) => unfold(event.target.closest("a[href^='#']")?.hash.slice(1)))
// Both events: the first comes before the pages are counted, the second also where a page is only shown as printed.
let printed = []
const print = (on) => {
  if (on) printed.push(...document.querySelectorAll("details:not([open])"))
  for (const one of printed) one.open = on
  if (!on) printed = []
}
// A canvas is as wide as it was on the screen; wider than the sheet, it would have the browser shrink all that is on it.
const sheet = 1000
const shrink = (figure, on) => {
  const zoom = on ? Math.min(1, sheet / figure.clientWidth) : ""
  for (const part of figure.children) if (part.localName !== "figcaption") part.style.zoom = zoom
}
for (const [event, on] of [["beforeprint", true], ["afterprint", false]])
  addEventListener(event, () => {
    print(on)
    for (const figure of document.querySelectorAll("figure")) shrink(figure, on)
  })
matchMedia("print").addEventListener("change", ({ matches }) => print(matches))

// A page that is opened as a file, or framed by a tracker, may have no clipboard but that of a copy by hand.
const summary = ["h1", ".verdict", ...[1, 2, 3].map((nth) => `#findings li:nth-child(${nth}) > bdi`)]
  .map((part) => document.querySelector(part)?.textContent.trim()).filter((line) => line).join("\n")
const by_hand = () => new Promise((done, refuse) => {
  document.addEventListener("copy", (event) => {
    event.clipboardData.setData("text/plain", summary)
    event.preventDefault()
    done()
  }, { once: true })
  if (!document.execCommand("copy")) refuse()
})
get("copy").hidden = false
get("copy").addEventListener("click", () =>
  (navigator.clipboard?.writeText(summary) ?? Promise.reject()).catch(by_hand)
    .then(() => "copied", () => "the browser does not allow it").then((said) => { get("copied").textContent = said }))
