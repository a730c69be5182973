"""The contrast of every text that a page shows, by the formula of WCAG 2.2.

Source: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio and #dfn-relative-luminance. A colour that
is not opaque is laid upon what lies behind it. Texts of disabled controls are left out, as success
criterion 1.4.3 does; so are canvases (the tables of numbers): their text is not in the document.
"""

from dataclasses import dataclass

from tests.browser.page import Tab

LEAST = 4.5  # criterion 1.4.3, of text of any size
ROUNDED = 0.005  # colours on a screen are whole numbers

TEXTS = """() => {
  const parsed = text => {
    const numbers = (text.match(/[\\d.]+/g) ?? []).map(Number);
    if (text.startsWith('color(srgb')) numbers.forEach((_, i) => { if (i < 3) numbers[i] *= 255; });
    return numbers.length < 3 ? [0, 0, 0, 0] : [...numbers.slice(0, 3), numbers[3] ?? 1];
  };
  const upon = (top, below) => {
    const alpha = top[3] + below[3] * (1 - top[3]);
    const mixed = i => alpha && (top[i] * top[3] + below[i] * below[3] * (1 - top[3])) / alpha;
    return [mixed(0), mixed(1), mixed(2), alpha];
  };
  const faded = (colour, opacity) => [...colour.slice(0, 3), colour[3] * opacity];
  const seen = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement;
    const text = node.textContent.trim();
    if (!/[\\p{L}\\p{N}]/u.test(text)) continue;
    if (element.closest('script, style, title, noscript')) continue;
    if (element.closest(':disabled, [aria-disabled="true"], [data-testid^="stIcon"]')) continue;
    const widget = element.closest('label')?.parentElement;  // a label fades with its control
    if (widget?.querySelector('input:disabled, textarea:disabled')) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const box = range.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) continue;  // also what only screen readers are told
    if (!element.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    const style = getComputedStyle(element), svg = element instanceof SVGElement;
    let colour = parsed(svg ? style.fill : style.color), behind = [0, 0, 0, 0];
    if (svg) colour = faded(colour, Number(style.fillOpacity));
    let opacity = 1;
    for (let at = element; at; at = at.parentElement) {
      const its = getComputedStyle(at);
      if (behind[3] < 1 && !(at instanceof SVGElement))
        behind = upon(behind, parsed(its.backgroundColor));
      opacity *= Number(its.opacity);
    }
    const dark = getComputedStyle(document.documentElement).colorScheme === 'dark';
    behind = upon(behind, dark ? [0, 0, 0, 1] : [255, 255, 255, 1]);
    const where = element.closest('[data-testid]')?.dataset.testid ?? element.tagName;
    seen.push([`${where}: ${text.slice(0, 60)}`, upon(faded(colour, opacity), behind), behind]);
  }
  return seen;
}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text on a page, where it stands, and its contrast."""

    words: str
    contrast: float


def luminance(red: float, green: float, blue: float) -> float:
    """The relative luminance of a colour of sRGB, its channels from 0 to 255: 0 to 1."""
    linear = [
        channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4
        for channel in (red / 255, green / 255, blue / 255)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(text: tuple[float, float, float], behind: tuple[float, float, float]) -> float:
    """The contrast ratio of two opaque colours: 1 (equal) to 21 (black on white)."""
    lighter, darker = sorted((luminance(*text), luminance(*behind)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def texts(tab: Tab) -> list[Text]:
    """All texts of the page that can be seen, with their contrast."""
    return [
        Text(words=words, contrast=contrast(tuple(colour[:3]), tuple(behind[:3])))
        for words, colour, behind in tab.page.evaluate(TEXTS)
    ]


def too_faint(tab: Tab) -> list[Text]:
    """The texts of the page whose contrast is below `LEAST`, the faintest first."""
    faint = [text for text in texts(tab) if text.contrast < LEAST - ROUNDED]
    return sorted(faint, key=lambda text: text.contrast)
