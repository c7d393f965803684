// Plots take the page's colours when they are painted: again, then, when light turns dark.
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const view of window.Bokeh?.index ?? []) view.request_repaint();
});

// Tooltips are Bokeh's, with a pale blue for labels that is hard to read on white.
const tooltips = new CSSStyleSheet();
tooltips.replaceSync(".bk-tooltip-row-label { color: var(--soft); padding-right: 0.4em; }");
new MutationObserver((changes) => {
  for (const node of changes.flatMap((change) => [...change.addedNodes])) {
    if (node.shadowRoot) node.shadowRoot.adoptedStyleSheets.push(tooltips);
  }
}).observe(document.body, { childList: true });
