// What a page can be asked in a browser. Evaluates to an object of functions, each of which returns plain data;
// report_checks.py calls them, so that nothing of this is in the page itself.
(() => {
  const clip = (text) => text.trim().replace(/\s+/g, " ").slice(0, 50);
  const name = (element) => {
    const classes = element.getAttribute("class");
    return `<${element.localName}${classes ? ` class="${classes}"` : ""}> ${clip(element.textContent)}`;
  };
  const shown = (element) => {
    const box = element.getBoundingClientRect();
    return box.width > 0 && box.height > 0 && element.checkVisibility({ visibilityProperty: true });
  };
  const textNodes = (root) => {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    const found = [];
    while (walker.nextNode()) {
      const node = walker.currentNode;
      if (node.data.trim() && shown(node.parentElement)) found.push(node);
    }
    return found;
  };
  const chain = (element) => {
    const found = [];
    for (let e = element; e; e = e.parentElement) found.push(e);
    return found;
  };

  // Colours, by way of a canvas, which knows each notation.
  const canvas = document.createElement("canvas");
  canvas.width = 72;
  canvas.height = 48;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const seen = new Map();
  const rgba = (colour) => {
    if (!seen.has(colour)) {
      pen.clearRect(0, 0, 1, 1);
      pen.fillStyle = colour;
      pen.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
      seen.set(colour, [r, g, b, a / 255]);
    }
    return seen.get(colour);
  };
  const over = (above, below, opacity = 1) => {
    const share = above[3] * opacity;
    return [0, 1, 2].map((i) => above[i] * share + below[i] * (1 - share)).concat(1);
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((c) => {
      const v = c / 255;
      return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
    return (light + 0.05) / (dark + 0.05);
  };
  // Each colour that may lie behind an element: more than one where there is a gradient.
  const known = new Map();
  const behind = (element) => {
    if (!element) return [rgba(matchMedia("(prefers-color-scheme: dark)").matches ? "#121212" : "#fff")];
    if (!known.has(element)) {
      const style = getComputedStyle(element);
      const colours = behind(element.parentElement).map((below) => over(rgba(style.backgroundColor), below));
      const stops = style.backgroundImage.match(/(?:rgba?|color|oklab|oklch)\([^()]*\)/g) || [];
      known.set(element, colours.concat(stops.flatMap((stop) => colours.map((below) => over(rgba(stop), below)))));
    }
    return known.get(element);
  };
  const clear = new Map([[null, 1]]);
  const opacity = (element) => {
    if (!clear.has(element)) clear.set(element, opacity(element.parentElement) * Number(getComputedStyle(element).opacity));
    return clear.get(element);
  };
  // What is drawn in a figure before `element` and lies under its middle.
  const drawnUnder = (element, colours) => {
    const box = element.getBoundingClientRect();
    const middle = new DOMPoint(box.x + box.width / 2, box.y + box.height / 2);
    for (const shape of element.ownerSVGElement.querySelectorAll("path, rect, circle")) {
      if (shape.closest("defs, clipPath")) continue;
      if (!(shape.compareDocumentPosition(element) & Node.DOCUMENT_POSITION_FOLLOWING)) continue;
      const style = getComputedStyle(shape);
      if (style.fill === "none" || !shape.isPointInFill(middle.matrixTransform(shape.getScreenCTM().inverse()))) continue;
      const share = opacity(shape) * Number(style.fillOpacity);
      colours = colours.map((below) => over(rgba(style.fill), below, share));
    }
    return colours;
  };

  // The lowest contrast of each text with what is behind it, and what WCAG 2.2 AA asks (1.4.3).
  const contrast = () => textNodes(document.body).map((node) => {
    const element = node.parentElement;
    const style = getComputedStyle(element);
    const figure = element.ownerSVGElement;
    const scale = figure ? element.getScreenCTM().d : 1;
    const size = parseFloat(style.fontSize) * scale;
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const colour = rgba(figure ? style.fill : style.color);
    const share = opacity(element) * (figure ? Number(style.fillOpacity) : 1);
    const below = figure ? drawnUnder(element, behind(element)) : behind(element);
    const lowest = Math.min(...below.map((back) => ratio(over(colour, back, share), back)));
    return { ratio: lowest, needed: large ? 3 : 4.5, size, text: clip(node.data) };
  });

  // Series of a figure by the colour that its style names, with what else tells them apart.
  const figures = () => [...document.querySelectorAll("main svg")].map((svg) => {
    const series = {};
    for (const shape of svg.querySelectorAll('[style*="--series-"]')) {
      if (shape.closest("defs")) continue;
      const style = getComputedStyle(shape);
      const id = /--series-\d+/.exec(shape.getAttribute("style"))[0];
      const entry = (series[id] ??= { looks: [], bars: 0, named: 0, contrast: 99 });
      const mark = shape.localName === "use" && document.querySelector(shape.getAttribute("href"));
      const line = style.fill === "none";
      if (mark) entry.looks.push(`mark ${mark.getAttribute("d")}`);
      else if (line) entry.looks.push(`dashes ${style.strokeDasharray}`);
      else {
        // a bar: its name is beside it or below it
        const box = shape.getBoundingClientRect();
        entry.bars += 1;
        entry.named += [...svg.querySelectorAll("text")].some((text) => {
          const place = text.getBoundingClientRect();
          const [x, y] = [place.x + place.width / 2, place.y + place.height / 2];
          return (y > box.top && y < box.bottom && x < box.left) || (x > box.left && x < box.right && y > box.bottom);
        });
      }
      const share = opacity(shape) * Number(line ? style.strokeOpacity : style.fillOpacity);
      const colour = rgba(line ? style.stroke : style.fill);
      const back = behind(svg)[0];
      entry.contrast = Math.min(entry.contrast, ratio(over(colour, back, share), back));
    }
    return Object.entries(series).map(([id, entry]) => ({ id, ...entry, looks: [...new Set(entry.looks)].sort() }));
  });

  // What sticks out of the window, is cut off, or lies over other words.
  const cut = () => {
    const found = [];
    const page = document.scrollingElement;
    const width = page.clientWidth;
    if (page.scrollWidth > width) found.push(`the page is ${page.scrollWidth} wide in a window of ${width}`);
    const printed = matchMedia("print").matches;
    for (const element of document.querySelectorAll("main, main *")) {
      if (!shown(element)) continue;
      const style = getComputedStyle(element);
      const drawing = element.ownerSVGElement;
      const box = element.getBoundingClientRect();
      if (drawing && element.localName === "text" && getComputedStyle(drawing).overflowX !== "visible") {
        const frame = drawing.getBoundingClientRect();
        if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
          found.push(`cut by its figure: ${name(element)}`);
      }
      if (drawing && element.localName !== "text") continue;
      const scrolls = !printed && chain(element.parentElement).some((e) => /auto|scroll/.test(getComputedStyle(e).overflowX));
      if (!scrolls && (box.left < -0.5 || box.right > width + 0.5)) found.push(`out of the window: ${name(element)}`);
      const hides = printed ? /auto|scroll|hidden|clip/ : /hidden|clip/;
      const more = element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0;
      if (element.localName !== "svg" && !drawing && hides.test(style.overflowX) && more) found.push(`cut: ${name(element)}`);
    }
    for (const folded of printed ? document.querySelectorAll("details > :not(summary)") : [])
      if (!shown(folded)) found.push(`folded away: ${name(folded)}`);
    for (const svg of document.querySelectorAll("main svg")) {
      const texts = [...svg.querySelectorAll("text")].filter(shown).map((text) => [text, text.getBoundingClientRect()]);
      texts.forEach(([text, a], i) => {
        for (const [other, b] of texts.slice(i + 1)) {
          const [across, down] = [Math.min(a.right, b.right) - Math.max(a.left, b.left), Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top)];
          if (across > 1 && down > 3) found.push(`one over the other: ${clip(text.textContent)} | ${clip(other.textContent)}`);
        }
      });
    }
    return found;
  };

  // What colour alone tells.
  const colourless = () => {
    const found = [];
    figures().forEach((series, i) => {
      series.forEach((one, j) => {
        if (series.length > 1 && one.bars > one.named) found.push(`figure ${i + 1}: ${one.bars - one.named} bars without a name`);
        for (const other of series.slice(j + 1))
          if (!one.bars && !other.bars && one.looks.join() === other.looks.join()) found.push(`figure ${i + 1}: ${one.id} looks like ${other.id}`);
      });
    });
    for (const piece of document.querySelectorAll(".piece")) {
      const style = getComputedStyle(piece);
      const edges = [[style.outlineStyle, style.outlineWidth, style.outlineColor], [style.borderRightStyle, style.borderRightWidth, style.borderRightColor]];
      const seen = edges.some(([kind, width, colour]) => kind !== "none" && parseFloat(width) >= 1 && ratio(rgba(colour), behind(piece.parentElement)[0]) >= 3);
      if (!seen) found.push(`a token without an edge: ${name(piece)}`);
    }
    for (const link of document.querySelectorAll("a[href]"))
      if (!getComputedStyle(link).textDecorationLine.includes("underline")) found.push(`a link like other words: ${name(link)}`);
    return found;
  };

  // What can be reached with the keyboard and does not show that it was.
  const unfocused = () => [...document.querySelectorAll("a[href], summary, [tabindex]")].filter(shown).filter((element) => {
    element.focus({ focusVisible: true });
    const style = getComputedStyle(element);
    return document.activeElement !== element || style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2;
  }).map(name);

  // Characters that no font here has: drawn as a character is that cannot exist, or not at all.
  const glyphs = () => {
    const drawn = new Map();
    const bits = (text, font) => {
      const key = `${font}|${text}`;
      if (!drawn.has(key)) {
        pen.clearRect(0, 0, canvas.width, canvas.height);
        pen.font = font;
        pen.fillStyle = "#000";
        pen.fillText(text, 20, 30);
        // black on nothing: each pixel is its alpha alone
        const pixels = new Uint32Array(pen.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
        drawn.set(key, pixels.reduce((sum, pixel) => Math.imul(sum ^ (pixel >>> 24), 16777619), 2166136261));
      }
      return drawn.get(key);
    };
    const missing = new Set();
    const tried = new Set();
    for (const node of textNodes(document.body)) {
      const style = getComputedStyle(node.parentElement);
      const font = `${style.fontStyle} ${style.fontWeight} 20px ${style.fontFamily}`;
      for (const { segment } of new Intl.Segmenter().segment(node.data)) {
        const [letter, ...marks] = segment;
        const key = `${font}|${segment}`;
        if (tried.has(key) || !/[\p{L}\p{N}\p{P}\p{S}]/u.test(letter)) continue;
        tried.add(key);
        const nothing = bits("\u{10FFFF}", font);
        if ([nothing, bits(" ", font)].includes(bits(letter, font))) missing.add(letter);
        let before = letter;
        for (const mark of marks) {
          const without = [bits(before, font), bits(`${before}\u{10FFFF}`, font)];
          if (/[\p{M}\p{L}]/u.test(mark) && without.includes(bits(before + mark, font))) missing.add(before + mark);
          before += mark;
        }
      }
    }
    return { tried: tried.size, missing: [...missing] };
  };

  // Direction and place of each text that finds its own direction.
  const directions = () => [...document.querySelectorAll("main [dir=auto]")].filter(shown).map((element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    const style = getComputedStyle(element);
    const box = element.getBoundingClientRect();
    const line = [...range.getClientRects()].filter((r) => r.width > 0);
    const top = Math.min(...line.map((r) => r.top));
    const first = line.filter((r) => r.top < top + 4);
    const indent = parseFloat(style.textIndent) || 0;
    return {
      text: clip(element.textContent),
      direction: style.direction,
      left: Math.min(...first.map((r) => r.left)) - box.left - parseFloat(style.paddingLeft) - parseFloat(style.borderLeftWidth) - indent,
      right: box.right - Math.max(...first.map((r) => r.right)) - parseFloat(style.paddingRight) - parseFloat(style.borderRightWidth) - indent,
    };
  });

  const structure = () => {
    const headings = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")];
    const named = (e) => {
      const label = e.closest("[aria-label]")?.getAttribute("aria-label");
      const by = e.closest("[aria-labelledby]")?.getAttribute("aria-labelledby");
      return Boolean(label?.trim() || e.getAttribute("alt") || (by && document.getElementById(by)?.textContent.trim()));
    };
    return {
      lang: document.documentElement.lang,
      title: document.title,
      elements: document.querySelectorAll("*").length,
      headings: headings.map((h) => [Number(h.localName[1]), clip(h.textContent)]),
      unnamed: [...document.querySelectorAll("img, svg, [role=img], [role=region]")].filter((e) => !named(e)).map(name),
      ready: performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd,
    };
  };

  return { contrast, figures, cut, colourless, unfocused, glyphs, directions, structure };
})()
