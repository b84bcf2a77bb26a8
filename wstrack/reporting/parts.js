// Which layer's parts the heat map shows: chosen in the list, by a button of the table, or by a finding.
const view = document.getElementById("view")
const show = (place) => {
  const { image, rows, labels } = stock.data
  shown.data = { image: [image[place]], rows: [rows[place]], labels: [labels[place]] }
  plot.y_range.setv({ start: rows[place] - 0.5, end: -0.5 })
  for (const axis of plot.left) axis.formatter.change.emit() // its labels are of the view
  if (view) view.value = String(place)
}
view?.addEventListener("input", () => show(Number(view.value)))
document.addEventListener("click", (event) => {
  const chosen = event.target.closest("[data-view]")?.dataset.view
  if (chosen !== undefined) show(Number(chosen))
})
