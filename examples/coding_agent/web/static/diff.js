// What has changed in the files: git's diff, a block for each file.

import { h } from "./dom.js";

export function showDiff(parent, diff) {
  const closed = new Set([...parent.querySelectorAll("details:not([open])")].map((each) => each.dataset.name));
  const files = filesOf(diff);
  parent.replaceChildren(
    ...files.map(({ name, lines, added, removed }) => {
      const counts = h("span", { class: "counts" }, h("ins", {}, `+${added}`), " ", h("del", {}, `−${removed}`));
      const code = h("pre", { tabindex: "0", "aria-label": `Differences of ${name}` });
      for (const line of lines) code.append(h("span", { class: `line ${kindOf(line)}` }, `${line}\n`));
      const details = h("details", { open: !closed.has(name) }, h("summary", {}, h("code", {}, name), counts), code);
      details.dataset.name = name;
      return details;
    }),
  );
  if (!files.length) parent.append(h("p", { class: "quiet" }, "Nothing has changed."));
  return files.length;
}

function filesOf(diff) {
  const files = [];
  let inHunk = false;
  for (const line of diff.split("\n")) {
    if (line.startsWith("diff --git ")) {
      files.push({ name: line.replace(/^diff --git (?:"?a\/.*?"?) (?="?b\/)"?b\/(.*?)"?$/, "$1"), lines: [], added: 0, removed: 0 });
      inHunk = false;
      continue;
    }
    const file = files.at(-1);
    if (!file || (!inHunk && /^(index|---|\+\+\+) /.test(line))) continue;
    if (line.startsWith("@@")) inHunk = true;
    if (inHunk && line.startsWith("+")) file.added += 1;
    if (inHunk && line.startsWith("-")) file.removed += 1;
    if (line) file.lines.push(line);
  }
  return files;
}

function kindOf(line) {
  return { "+": "added", "-": "removed", "@": "hunk", " ": "same" }[line[0]] ?? "hunk";
}
