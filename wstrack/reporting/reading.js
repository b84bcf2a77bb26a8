// What each page needs to be read by everyone: names, the keyboard, what is folded, paper and the clipboard.
// What Bokeh leaves without a name, or to the pointer alone.
const deep = (root, selector) => [...root.querySelectorAll("*")].flatMap((one) =>
  [...(one.matches(selector) ? [one] : []), ...(one.shadowRoot ? deep(one.shadowRoot, selector) : [])])
const name = (one, role, label) => { one.role = role; one.ariaLabel = label }
for (const figure of document.querySelectorAll("figure"))
  for (const canvas of deep(figure, ".bk-events")) name(canvas, "img", figure.ariaLabel)
for (const table of document.querySelectorAll("[data-table]")) {
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
}

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
const by_hand = (text) => new Promise((done, refuse) => {
  document.addEventListener("copy", (event) => {
    event.clipboardData.setData("text/plain", text)
    event.preventDefault()
    done()
  }, { once: true })
  if (!document.execCommand("copy")) refuse()
})
const copies = (button, said, text) => button.addEventListener("click", () =>
  (navigator.clipboard?.writeText(text()) ?? Promise.reject()).catch(() => by_hand(text()))
    .then(() => "copied", () => "the browser does not allow it").then((answer) => { said.textContent = answer }))
get("copy").hidden = false
copies(get("copy"), get("copied"), () => ["h1", ".verdict", ...[1, 2, 3].map((nth) => `#findings li:nth-child(${nth}) > bdi`)]
  .map((part) => document.querySelector(part)?.textContent.trim()).filter((line) => line).join("\n"))
