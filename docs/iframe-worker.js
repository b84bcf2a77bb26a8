// Browsers start no worker for a page that was opened as a file; its search then runs in a frame, which is told and
// asked as a worker is. The theme looks for this class by its name.
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      frame.answer = (data) => this.dispatchEvent(new MessageEvent("message", { data }))
      this.ready = new Promise((resolve) => frame.addEventListener("load", () => resolve(frame.contentWindow)))
      frame.srcdoc = `<script>postMessage = (data) => frameElement.answer(data)</script><script src="${url}"></script>`
      document.body.append(frame)
    }
    postMessage(data) {
      this.ready.then((worker) => worker.dispatchEvent(new worker.MessageEvent("message", { data })))
    }
  }
  window.Worker = window.IFrameWorker
}
