// Makes elements. Text is always set as text: what an agent says is nobody's markup.

export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "onclick" || name === "onsubmit") element[name] = value;
    else if (typeof value === "boolean") element.toggleAttribute(name, value);
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function button(text, onclick, properties = {}) {
  return h("button", { type: "button", onclick, ...properties }, text);
}

// Changes only what is different: a selection and a focus stay.
export function setText(element, text) {
  if (element.childNodes.length === 1 && element.firstChild.nodeType === Node.TEXT_NODE) {
    const node = element.firstChild;
    if (node.data === text) return;
    if (text.startsWith(node.data)) node.appendData(text.slice(node.data.length));
    else node.data = text;
  } else element.textContent = text;
}

// Prose with fenced code, as paragraphs and blocks of code.
export function setProse(element, text) {
  const parts = text.split(/^(?:```.*)$\n?/m);
  parts.forEach((part, place) => {
    const tag = place % 2 ? "PRE" : "P";
    let child = element.children[place];
    if (child?.tagName !== tag) {
      const made = h(tag);
      if (child) child.replaceWith(made);
      else element.append(made);
      child = made;
    }
    setText(child, part.replace(/^\n+|\n+$/g, ""));
    child.hidden = !part.trim();
  });
  while (element.children.length > parts.length) element.lastElementChild.remove();
}
