// Draws the charts of a report from what stands in it: plotly.js, packed, and the charts' data.
(async () => {
  const block = id => document.getElementById(id).textContent;
  const packed = Uint8Array.from(atob(block("plotly-packed")), letter => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script); // the page's policy lets it run by its hash
  const { charts, config } = JSON.parse(block("charts-data"));
  for (const { name, data, layout } of charts) await Plotly.newPlot(name, data, layout, config);
  document.getElementById("no-charts").hidden = true;
})();
