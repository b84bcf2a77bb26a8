// Samples that came since this page was made, of a run that goes on, until the next page takes its place; see tail.py.
const numbers = (packed) => new Float32Array(Uint8Array.from(atob(packed), (one) => one.charCodeAt(0)).buffer)
const joined = (one, other) => Float64Array.from([...one, ...other])
const start = steps.start
const Tiles = image.data.image[0].constructor
let whole = steps.bounds[1]
let newest = null

const courses = new Map() // by cluster, the source of its percentiles, and what was in it
for (const { renderers } of Object.values(curves))
  for (const { tags: [label], data_source } of renderers)
    if (label !== undefined && !courses.has(label)) courses.set(label, [data_source, { ...data_source.data }])
const single = Object.values(curves)[0].renderers.find((one) => one.data_source === source && one.glyph.type === "MultiLine")
const veiled = plot.renderers.find((one) => one.nonselection_glyph === veil)
const usual = single.glyph.line_alpha.value

const draw_lines = () => {
  if (newest === null) return
  const chosen = source.selected.indices
  const rows = chosen.length ? chosen : usual ? source.data.layer.map((_, i) => i) : []
  const [at, values] = [numbers(newest.lines.step), numbers(newest.lines.values)]
  lines.data = {
    steps: rows.map(() => at),
    values: rows.map((row) => values.slice(row * at.length, (row + 1) * at.length)),
    colour: rows.map((row) => source.data.colour[row]),
    alpha: rows.map(() => chosen.length ? 0.85 : usual),
  }
}
source.selected.connect(source.selected.properties.indices.change, draw_lines)

document.documentElement.addEventListener("wstrack-tail", ({ detail }) => {
  newest = detail
  for (const mapper of mappers) {
    const low = newest.low[mapper.type === "LogColorMapper" ? 1 : 0]
    if (low !== null && low < mapper.low) mapper.low = low
    if (newest.high > mapper.high) mapper.high = newest.high
  }
  const tiles = new Tiles(numbers(newest.image).buffer, newest.shape)
  for (const glyph of [veiled.glyph, veiled.selection_glyph, veiled.nonselection_glyph]) glyph.right = { value: newest.end }
  image.data = { image: [tiles], x: [newest.start], dw: [newest.end - newest.start] }
  for (const [label, tail] of Object.entries(newest.courses)) {
    const [drawn, before] = courses.get(Number(label))
    drawn.data = Object.fromEntries(["step", "low", "middle", "high"].map((name) => [name, joined(before[name], numbers(tail[name]))]))
  }
  draw_lines()
  const at_end = steps.end === whole
  steps.bounds = [start, newest.end]
  if (at_end) steps.end = newest.end
  whole = newest.end
})
