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

// Bokeh's copies of a glyph, for what is chosen and what is not, paint on its canvas too, with the mapper that they have.
const recolour = (image, color_mapper) => {
  for (const view of Bokeh.index.query((view) => view.model.glyph === image))
    for (const copy of ["decimated", "selection", "nonselection", "muted"]) view[`${copy}_glyph`].model.color_mapper = color_mapper
  image.color_mapper = color_mapper
}

for (const control of filters) control.addEventListener("input", filter)
scale?.addEventListener("input", () => {
  for (const [name, plot] of Object.entries(curves)) plot.visible = name === scale.value
  const [color_mapper, ticker, formatter] = scales[scale.value]
  for (const image of images) recolour(image, color_mapper)
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
