// The tab: a list of runs, and the report's page on those that are chosen, in a frame. Names are set as text alone.
const POLL = 1500, SETTLES = 400 // milliseconds
const make = (kind, attributes = {}, ...children) => {
  const one = document.createElement(kind)
  Object.assign(one, attributes)
  one.append(...children)
  return one
}
const at = (route, query = {}) => {
  const url = new URL(route, import.meta.url)
  for (const [name, value] of Object.entries(query)) for (const each of [value].flat()) if (each) url.searchParams.append(name, each)
  return url
}
const ask = async (route, query) => {
  const answer = await fetch(at(route, query))
  if (!answer.ok) throw new Error(`TensorBoard answers ${answer.status}`)
  return answer.json()
}

// TensorBoard says by a class of its own page whether it is dark; alone, or framed by a stranger, the browser says it.
const around = () => {
  try { return parent === window ? null : parent.document.body } catch { return null }
}
const scheme = () => {
  const body = around()
  return (body ? body.classList.contains("dark-mode") : matchMedia("(prefers-color-scheme: dark)").matches) ? "dark" : "light"
}

export const render = () => {
  document.title = "wstrack"
  document.documentElement.lang = "en"
  const find = make("input", { type: "search", id: "find", placeholder: "part of a run's name", ariaLabel: "Part of a run's name", autocomplete: "off", spellcheck: false })
  const list = make("ul", { id: "runs" })
  const metric = make("select", { id: "metric" })
  const match = make("input", { id: "match", placeholder: "grad_norm/(?P<layer>.+)", autocomplete: "off", spellcheck: false })
  const side = make("aside", { ariaLabel: "What is shown" },
    make("h1", {}, "Runs"), find, list,
    make("label", {}, "metric ", metric),
    make("details", {}, make("summary", {}, "series logged without wstrack"),
      make("label", {}, "a regular expression over their tags, with a group (?P<layer>...) ", match)))
  const said = make("output", { id: "said", ariaLive: "polite" })
  const frames = make("div", { id: "frames" })
  const ready = new Promise((done) => {
    const sheet = make("link", { rel: "stylesheet", href: at("index.css"), onload: done, onerror: done })
    document.head.append(sheet)
  })
  ready.then(() => document.body.append(side, make("main", {}, said, frames)))

  let names = [], latest = null, chosen = null, wanted = "", asked = "", shown = ""
  let tail = null // the samples after those of the page, as they were last drawn onto it
  const query = () => ({ run: chosen, metric: wanted, match: match.value })
  const key = (version) => JSON.stringify([query(), version])

  const paint = () => {
    const now = scheme()
    document.documentElement.dataset.scheme = now
    for (const frame of frames.children) if (frame.contentDocument) frame.contentDocument.documentElement.dataset.scheme = now
  }
  paint()
  const body = around()
  if (body) new MutationObserver(paint).observe(body, { attributeFilter: ["class"] })
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint)

  const boxes = () => [...list.querySelectorAll("input")]
  const filter = () => {
    for (const box of boxes()) box.closest("li").hidden = !box.checked && !box.value.toLowerCase().includes(find.value.toLowerCase())
  }
  const fill = (found) => {
    if (JSON.stringify(found) === JSON.stringify(names)) return
    names = found
    const focused = list.contains(document.activeElement) ? document.activeElement.value : null
    list.replaceChildren(...names.map((name) => make("li", {}, make("label", {},
      make("input", { type: "checkbox", value: name, checked: chosen.includes(name) }), make("bdi", {}, name)))))
    filter()
    boxes().find((box) => box.value === focused)?.focus()
  }
  find.addEventListener("input", filter)
  list.addEventListener("change", () => {
    chosen = boxes().filter((box) => box.checked).map((box) => box.value)
    clearTimeout(settled)
    settled = setTimeout(poll, SETTLES) // who chooses one run often chooses another with it
  })
  metric.addEventListener("change", () => { wanted = metric.value; poll() })
  match.addEventListener("change", () => { chosen = null; wanted = ""; poll() })

  // The next page takes the place of the last once it is drawn, so that nothing flickers.
  const show = (url) => {
    for (const late of [...frames.children].slice(1)) late.remove()
    const frame = make("iframe", { title: "Report", src: url, className: "next" })
    frame.dataset.shown = shown
    frame.addEventListener("load", () => {
      const root = frame.contentDocument.documentElement
      root.dataset.scheme = scheme()
      const swap = () => {
        const before = [...frames.children].filter((one) => one !== frame)
        const focused = before.includes(document.activeElement)
        frame.className = ""
        for (const one of before) one.remove()
        if (focused) frame.focus()
        tail = null // the next state has what this page lacks
      }
      if (root.dataset.ready !== undefined) swap()
      else new MutationObserver((_, watch) => { if (root.dataset.ready !== undefined) { watch.disconnect(); swap() } }).observe(root, { attributeFilter: ["data-ready"] })
    })
    frames.append(frame)
  }

  const step = (number) => number.toLocaleString("en")
  const lag = () => tail && frames.querySelector("iframe:not(.next)")?.dataset.shown === shown
    ? `: heat map and curves up to step ${step(tail.step)}, all else as of step ${step(tail.after)}` : ""

  const look = async () => {
    const { runs, latest: last, said: wrong } = await ask("runs", { match: match.value })
    latest = last
    const gone = names.filter((name) => chosen?.includes(name) && !runs.includes(name))
    if (!chosen?.length && latest !== null) chosen ??= [latest]
    fill([...runs, ...gone])
    if (!chosen?.length) {
      frames.replaceChildren()
      shown = ""
      said.value = wrong || (runs.length ? "Choose a run." : match.value ? "No series fits." : "No run of wstrack is in the log directory yet.")
      return
    }
    asked = key("")
    const state = await ask("state", { ...query(), shown: tail && `${tail.version}/${tail.step}` })
    if (asked !== key("")) return // another choice was made meanwhile
    if (state.metrics.length) {
      const options = [...metric.options].map((option) => option.value)
      if (JSON.stringify(options) !== JSON.stringify(state.metrics)) {
        metric.replaceChildren(...state.metrics.map((name) => make("option", { value: name }, name)))
        metric.value = state.metrics.includes(wanted) ? wanted : state.metrics.includes("rwc") ? "rwc" : state.metrics[0]
      }
    }
    if (state.version && shown !== key(state.version)) {
      shown = key(state.version)
      show(at("page", { ...query(), version: String(state.version) }))
    }
    const drawn = frames.querySelector("iframe:not(.next)")
    if (state.tail && drawn?.dataset.shown === key(state.version)) {
      tail = { ...state.tail, version: state.version }
      drawn.contentDocument.documentElement.dispatchEvent(new CustomEvent("wstrack-tail", { detail: tail }))
    }
    const missing = state.gone.length ? `Gone from the log directory: ${state.gone.join(", ")}. This is what was last read.` : ""
    said.value = missing || state.said || (!state.version ? "Reading…" : state.goes_on ? `The run goes on; this page follows it${lag()}.` : "")
  }
  let settled = 0 // the timer of the next look, one at a time
  const poll = async () => {
    clearTimeout(settled)
    const mine = settled = setTimeout(() => {}, 0)
    try {
      if (!document.hidden) await look()
    } catch (error) {
      said.value = `TensorBoard does not answer (${error.message}).`
    }
    if (mine === settled) settled = setTimeout(poll, POLL) // else there was a choice meanwhile, which looks again
  }
  ready.then(poll)
}
