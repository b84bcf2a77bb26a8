// Runs once the figures are there; `runs` holds the runs and what is chosen of them, for every view.
const get = (id) => document.getElementById(id)
const [text, by, colour] = ["search", "order", "colour"].map(get)
const titles = runs.tags[0]

// Each word came once. That is news to the table alone, which heeds the view: points are not drawn anew.
for (const [field, its] of Object.entries(words)) runs.data[field] = Array.from(runs.data[field], (code) => its[code])
view.change.emit()
const count = runs.data.name.length, columns = places.length
const cell = image.data.image[0], missing = 65535, top = missing - 1
const stock = Uint16Array.from(cell)
const step = (high - low) / top
image.data.stock = [stock]

const none = (value) => value === null || value === "" || value !== value
const compare = (x, y) => {
  const [a, b] = [none(x), none(y)]
  if (a || b) return a - b
  return typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true })
}
const median = (values) => {
  const sorted = values.filter((value) => value === value).sort((a, b) => a - b), half = sorted.length >> 1
  return !sorted.length ? NaN : sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2
}

// Of each layer, the median code over runs, and how far the farthest run is from one.
let beside = null
const medians = () => {
  if (beside) return beside
  const found = new Float64Array(columns)
  const apart = []
  for (let place = 0; place < columns; place++) {
    const its = new Uint16Array(count)
    for (let run = 0; run < count; run++) its[run] = stock[run * columns + place]
    its.sort()
    const there = its.indexOf(missing) < 0 ? count : its.indexOf(missing)
    found[place] = there ? (its[(there - 1) >> 1] + its[there >> 1]) / 2 : NaN
    if (there) apart.push(Math.abs(its[0] - found[place]), Math.abs(its[there - 1] - found[place]))
  }
  apart.sort((a, b) => a - b)
  return beside = { found, reach: Math.max(apart[Math.ceil(0.9 * apart.length) - 1] ?? 1, 1) } // one odd run is not the scale
}

let shown = Array.from({ length: count }, (_, run) => run)
const paint = () => {
  const plain = colour.value === "level"
  if (plain) {
    for (const [row, run] of order.data.run.entries())
      for (let at = row * columns, from = run * columns, place = 0; place < columns; place++) cell[at + place] = stock[from + place]
  } else {
    const { found, reach } = medians()
    for (const [row, run] of order.data.run.entries())
      for (let place = 0; place < columns; place++) {
        const code = stock[run * columns + place]
        const share = Math.min(Math.max((code - found[place]) / reach, -1), 1)
        cell[row * columns + place] = code === missing ? missing : Math.round((1 + share) * top / 2)
      }
    const far = 10 ** (reach * step)
    bars.beside.color_mapper.setv({ low: 1 / far, high: far })
    image.data.median = [Array.from(found, (code) => low + code * step)]
  }
  if (plain) delete image.data.median
  mapper.palette = bars[colour.value].color_mapper.palette
  for (const kind of ["level", "beside"]) bars[kind].visible = kind === colour.value
  image.change.emit()
}
const arrange = () => {
  const its = by.value ? runs.data[by.value] : null
  const sorted = its ? [...shown].sort((a, b) => compare(its[a], its[b]) || a - b) : shown
  order.data = { run: sorted }
  order.tags = by.value ? [by.value] : []
  const rows = sorted.length || 1
  rows_of(rows)
  const at = { row: [], marker: [], colour: [] }
  for (const [row, run] of sorted.entries()) {
    const odd = runs.data.odd[run]
    if (!odd) continue
    at.row.push(row)
    at.marker.push(odd.startsWith("◆") ? "diamond" : "x")
    at.colour.push(odd.startsWith("◆") ? "#D55E00" : "#8c8c8c")
  }
  marks.data = at
  axis.axis_label = by.value ? by.selectedOptions[0].textContent.slice(0, 24) : null
  axis.formatter.change.emit() // its labels are of the order
  paint()
  point()
}
const rows_of = (rows) => {
  rows_range.setv({ bounds: [-0.5, rows - 0.5] })
  rows_range.setv({ start: rows - 0.5, end: -0.5 })
}

// What a row says, for the filter; made when it is first asked for.
let said = null
const sentences = () => said ??= shown_all.map((run) => ["name", "reference", "state", "findings", "odd", "why"]
  .map((field) => runs.data[field][run] ?? "")
  .concat(Object.entries(titles).filter(([field]) => /^c\d+$/.test(field)).map(([field, title]) => `${title}=${runs.data[field][run] ?? ""}`))
  .join("\n").toLowerCase())
const shown_all = shown
// Bokeh sorts the rows of a new filter by its own order, not by that of the columns.
const again = () => {
  const { grid, data } = Bokeh.index.find_one(table)
  const sorted = grid.getSortColumns()
    .map(({ columnId, sortAsc }) => ({ sortCol: grid.getColumns()[grid.getColumnIndex(columnId)], sortAsc }))
  if (!sorted.length) return
  data.sort(sorted)
  grid.invalidate()
}
const narrow = () => {
  const part = text.value.trim().toLowerCase()
  shown = part ? shown_all.filter((run) => sentences()[run].includes(part)) : shown_all
  const focused = document.activeElement, fits = new Set(shown)
  runs.selected.indices = part && shown.length === 1 ? shown : runs.selected.indices.filter((run) => fits.has(run))
  filter.indices = shown
  view.filter = filter
  view.change.emit()
  again()
  arrange()
  focused.focus({ preventScroll: true })
  tell()
}

// What is chosen.
const level_of = (run, those) => median(those.map((layer) => {
  let place = layer
  if (columns < layers.data.layer.length) place = places.findLastIndex((first) => first <= layer)
  const code = stock[run * columns + place]
  return code === missing ? NaN : low + code * step
}))
const usual = runs.data.level.slice()
const levels = () => {
  const those = [...layers.selected.indices]
  for (const run of shown_all) runs.data.level[run] = those.length ? 10 ** level_of(run, those) : usual[run]
  runs.change.emit()
}
const point = () => {
  const row = runs.selected.indices.length <= 50 ? runs.selected.indices.map((run) => order.data.run.indexOf(run)).filter((row) => row >= 0) : []
  chosen_run.data = { row }
  const its = layers.selected.indices
  chosen_layer.data = { place: its.length <= 50 ? [...new Set(its.map((layer) => places.findLastIndex((first) => first <= layer)))] : [] }
}
const node = (kind, content, more = {}) => Object.assign(document.createElement(kind), { textContent: content }, more)
const present = (value) => typeof value === "number" ? String(Number(value.toPrecision(6))) : String(value)
const show = () => {
  const panel = get("run"), [run] = runs.selected.indices
  panel.replaceChildren()
  panel.hidden = run === undefined || runs.selected.indices.length > 1
  if (panel.hidden) return
  const data = (field) => runs.data[field][run]
  const list = node("dl", "")
  const add = (name, value, className = "") => {
    if (none(value)) return
    const pair = node("div", "", { className })
    pair.append(node("dt", name), node("dd", present(value)))
    list.append(pair)
  }
  panel.append(node("h3", data("name")))
  add("what is odd", data("odd").startsWith("◆") ? data("why") : "", "line")
  add("why it was not read", data("odd").startsWith("✕") ? data("why") : "", "line")
  for (const field of told) add(titles[field], data(field))
  add("findings", data("texts"), "line")
  add("reference", data("reference"), "line")
  panel.append(list)
  if (data("address")) return panel.append(node("a", "its own report", { href: data("address") }))
  const line = node("p", "Its own report is made by ")
  const button = node("button", "copy", { type: "button", className: "copy", ariaLabel: "Copy the command" }), done = node("output", "")
  line.append(node("code", data("command")), " ", button, " ", done)
  copies(button, done, () => data("command"))
  panel.append(line)
}
const tell = () => {
  const some = runs.selected.indices, its = layers.selected.indices
  const said = []
  if (text.value.trim()) said.push(shown.length ? `${shown.length} of ${count} runs fit` : "no run fits")
  if (some.length === 1) said.push(runs.data.name[some[0]].slice(0, 40))
  if (some.length > 1) said.push(`${some.length} runs chosen`)
  if (its.length) said.push(its.length === 1 ? `layer ${layers.data.layer[its[0]].slice(0, 40)}` : `${its.length} layers chosen`)
  get("chosen").textContent = said.join("; ")
  get("clear").disabled = !said.length
}
const clear = () => {
  text.value = ""
  runs.selected.indices = []
  layers.selected.indices = []
  if (shown !== shown_all) narrow()
  tell()
}
text.addEventListener("input", narrow)
by.addEventListener("input", arrange)
colour.addEventListener("input", paint)
get("clear").addEventListener("click", clear)
document.addEventListener("keydown", (event) => { if (event.key === "Escape") clear() })
document.addEventListener("click", (event) => {
  const { run, layers: those } = event.target.closest("[data-run], [data-layers]")?.dataset ?? {}
  if (those) layers.selected.indices = JSON.parse(those)
  if (run === undefined) return
  runs.selected.indices = [Number(run)]
  get("run").scrollIntoView({ block: "center" })
})
runs.selected.connect(runs.selected.properties.indices.change, () => { point(); show(); tell() })
layers.selected.connect(layers.selected.properties.indices.change, () => { levels(); point(); tell() })
arrange()
tell()

