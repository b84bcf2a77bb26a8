// Of a run that goes on: what the reader looks at stays when the next page takes the place of this one.
const key = `wstrack ${location.pathname}`
const controls = [...document.querySelectorAll("#tools input, #tools select, #view")]
const folds = [...document.querySelectorAll("main details")]
const title = (one) => one.querySelector("summary").textContent
let own = true

const keep = () => {
  if (own) return
  const layers = source.selected.indices.map((i) => source.data.layer[i])
  const values = controls.map(({ id, value }) => [id, value])
  const kept = { top: scrollY, focus: document.activeElement.id, values, layers, open: folds.filter((one) => one.open).map(title) }
  try { sessionStorage.setItem(key, JSON.stringify(kept)) } catch { } // where the browser keeps nothing, nothing is kept
}
const kept = () => {
  try { return JSON.parse(sessionStorage.getItem(key)) } catch { return null }
}
const before = kept()
if (before) {
  const [values, open, layers] = [new Map(before.values), new Set(before.open), new Set(before.layers)]
  for (const one of folds) if (open.has(title(one))) one.open = true
  for (const control of controls) {
    const value = values.get(control.id)
    if (!value || value === control.value) continue
    control.value = value
    control.dispatchEvent(new Event("input"))
  }
  const rows = source.data.layer.flatMap((layer, i) => layers.has(layer) ? [i] : [])
  if (rows.length && !source.selected.indices.length) source.selected.indices = rows
  document.getElementById(before.focus)?.focus({ preventScroll: true })
  scrollTo(0, before.top)
}
own = false
for (const event of ["scroll", "input", "click", "keyup"]) addEventListener(event, keep, { passive: true })
addEventListener("toggle", keep, true)

// A file that is written anew has a script beside it, which says which page is the newest, and is gone once the run is over.
let touched = 0 // when the reader last did something, in which no reload may come
for (const event of ["pointermove", "pointerdown", "wheel", "keydown"])
  addEventListener(event, () => { touched = Date.now() }, { passive: true })
if (token) {
  const beside = new URL(`.${location.pathname.split("/").pop()}.js`, location.href)
  const idle = () => Date.now() - touched > 2000
  let there = false
  window.wstrack_newest = (newest) => {
    there = true
    if (newest !== token && idle()) location.reload()
  }
  // The run may have ended while this page was loaded; or the page was copied alone, and is not to reload for ever.
  const first = () => {
    try {
      const before = sessionStorage.getItem(beside.href)
      sessionStorage.setItem(beside.href, token)
      return before !== token
    } catch { return false }
  }
  setInterval(() => {
    if (document.hidden) return
    const script = document.createElement("script")
    script.src = `${beside.href}?${Date.now()}`
    script.onload = () => script.remove()
    script.onerror = () => { script.remove(); if (idle() && (there || first())) location.reload() }
    document.head.append(script)
  }, 2000)
}
document.documentElement.dataset.ready = ""
