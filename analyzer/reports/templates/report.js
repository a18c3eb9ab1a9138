"use strict";
(function () {
  var root = document.documentElement;
  var all = function (selector, from) { return Array.prototype.slice.call((from || document).querySelectorAll(selector)); };

  // Theme: system, light, dark.
  var themes = ["system", "light", "dark"], theme = 0;
  document.getElementById("theme").addEventListener("click", function () {
    theme = (theme + 1) % 3;
    if (theme) { root.dataset.theme = themes[theme]; } else { delete root.dataset.theme; }
    this.textContent = "Theme: " + themes[theme];
  });

  // Sorting: numbers by data-sort, all else as text; what is absent goes last.
  function key(row, column) {
    var cell = row.cells[column], sort = cell.dataset.sort;
    return sort === undefined ? cell.textContent : sort === "" ? null : Number(sort);
  }
  all("table.sortable").forEach(function (table) {
    var heads = all("th", table);
    heads.forEach(function (head, column) {
      head.firstElementChild.addEventListener("click", function () {
        var down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        var body = table.tBodies[0];
        Array.prototype.slice.call(body.rows).map(function (row) {
          return [key(row, column), row];
        }).sort(function (a, b) {
          if (a[0] === null || b[0] === null) { return (a[0] === null) - (b[0] === null); }
          var order = a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0;
          return down ? -order : order;
        }).forEach(function (pair) { body.appendChild(pair[1]); });
      });
    });
  });

  // A link into what is folded opens it; a link to a row or a cell marks that and brings it into sight.
  function show(id) {
    var place = id && document.getElementById(id);
    if (!place) { return; }
    for (var box = place.closest("details"); box; box = box.parentElement.closest("details")) { box.open = true; }
    all(".found").forEach(function (other) { other.classList.remove("found"); });
    if (/^[rf]-/.test(id)) {
      if (place.closest("[hidden]")) { seek(""); }
      if (/^r-/.test(id)) { place.classList.add("found"); }
      place.focus({preventScroll: true});
      place.scrollIntoView({block: "center", inline: "center"});
      // the fixed first column must not lie over the cell
      var fixed = place.matches("td") && place.parentElement.cells[0], around = place.closest(".scroll");
      if (fixed && fixed !== place) {
        around.scrollLeft -= Math.max(0, fixed.getBoundingClientRect().right - place.getBoundingClientRect().left);
      }
    } else { place.scrollIntoView(); }
  }
  all("main a[href^='#']").forEach(function (link) {
    link.addEventListener("click", function (event) {
      event.preventDefault();
      history.replaceState(null, "", link.getAttribute("href"));
      show(link.getAttribute("href").slice(1));
    });
  });

  // Search: only the rows that hold all the words stay, in tables that are open; without words all are folded again.
  var field = document.getElementById("search"), matches = document.getElementById("matches");
  function texts(box) { return all("tbody tr, dl.pairs", box); }
  function seek(text) {
    var words = text.toLowerCase().split(/\s+/).filter(Boolean), rows = 0, tables = 0;
    field.value = text;
    all("details.table").forEach(function (box) {
      var found = 0, isNamed = function (word) { return box.id.slice(2) === word; };
      texts(box).forEach(function (row) {
        var held = row.textContent.toLowerCase();
        var fits = words.every(function (word) { return isNamed(word) || held.indexOf(word) >= 0; });
        row.hidden = !fits;
        found += fits ? 1 : 0;
      });
      box.hidden = words.length > 0 && !found;
      box.open = words.length > 0 && found > 0;
      rows += found; tables += found ? 1 : 0;
    });
    matches.textContent = words.length ? rows + (rows === 1 ? " row in " : " rows in ") + tables + (tables === 1 ? " table" : " tables") : "";
  }
  if (field) {
    field.closest("p").hidden = false;
    field.addEventListener("input", function () { seek(field.value); });
  }
  if (location.hash) { show(location.hash.slice(1)); }
  window.addEventListener("hashchange", function () { show(location.hash.slice(1)); });

  // Copy: the rows in sight as text with tabs; a cell that a spreadsheet would compute gets an apostrophe.
  function tsv(box) {
    function one(cell) {
      var text = cell.dataset.sort !== undefined ? cell.dataset.sort : cell.textContent.trim();
      text = text === "\u2013" ? "" : text.replace(/\s+/g, " ");
      return /^[=+@]|^-(?!\d+(\.\d+)?$)/.test(text) ? "'" + text : text;
    }
    var list = box.querySelector("dl.pairs");
    var lines = list ? [all("dt", list), all("dd", list)] : all("tr", box).filter(function (row) { return !row.hidden; }).map(function (row) { return row.cells; });
    return lines.map(function (cells) { return [].map.call(cells, one).join("\t"); }).join("\n") + "\n";
  }
  function copy(text) {
    if (navigator.clipboard) { return navigator.clipboard.writeText(text).catch(function () { return byHand(text); }); }
    return Promise.resolve().then(function () { return byHand(text); });
  }
  function byHand(text) {
    var area = document.createElement("textarea"), before = document.activeElement;
    area.value = text;
    document.body.appendChild(area);
    area.select();
    var done = document.execCommand("copy");
    area.remove();
    before.focus({preventScroll: true});
    if (!done) { throw new Error("not copied"); }
  }
  all("[data-copy]").forEach(function (button) {
    var told = button.nextElementSibling;
    button.parentElement.hidden = false;
    button.addEventListener("click", function () {
      copy(tsv(button.closest("details"))).then(function () { told.textContent = "Copied, with tabs between the columns."; },
        function () { told.textContent = "The browser does not let this page copy."; });
    });
  });

  // Bytes and members light up together.
  all("[data-extension]").forEach(function (box) {
    var parts = all("[data-member]", box);
    function light(event) {
      var part = event.target.closest("[data-member]");
      var on = part && event.type !== "mouseout" && event.type !== "focusout" ? part.dataset.member : null;
      parts.forEach(function (one) { one.classList.toggle("on", one.dataset.member === on); });
    }
    ["mouseover", "mouseout", "focusin", "focusout"].forEach(function (name) { box.addEventListener(name, light); });
  });

  // On paper everything is open.
  var opened = [];
  window.addEventListener("beforeprint", function () {
    if (field && field.value) { seek(""); }
    opened = all("details:not([open])");
    opened.forEach(function (box) { box.open = true; });
    window.dispatchEvent(new Event("resize"));
    // A table that is too wide for paper is printed as one paragraph a row, each value with its name.
    all("table.sortable").filter(function (table) { return table.tHead.rows[0].cells.length > 6; }).forEach(function (table) {
      table.classList.add("paragraphs");
      var names = [].map.call(table.tHead.rows[0].cells, function (cell) { return cell.textContent; });
      all("tbody tr", table).forEach(function (row) {
        [].forEach.call(row.cells, function (cell, place) { cell.dataset.name = names[place]; });
      });
    });
  });
  window.addEventListener("afterprint", function () { opened.forEach(function (box) { box.open = false; }); });

  // The timelines: one for each crash.
  var NS = "http://www.w3.org/2000/svg", TRACK = 16, MOST = 6, GAP = 24, TOP = 26;
  function duration(ns) {
    var size = Math.abs(ns), units = [[1e9, "s"], [1e6, "ms"], [1e3, "us"]];
    for (var i = 0; i < 3; i++) {
      if (size >= units[i][0]) { return String(Number((ns / units[i][0]).toPrecision(4))) + " " + units[i][1]; }
    }
    return Math.round(ns) + " ns";
  }
  function element(name, attributes, text) {
    var made = document.createElementNS(NS, name);
    for (var one in attributes) { made.setAttribute(one, attributes[one]); }
    if (text !== undefined) { made.textContent = text; }
    return made;
  }
  function timeline(data, part) {
    var chart = part.querySelector(".chart"), told = part.querySelector(".told");
    var items = [], low = 0, high = 0, dump = 0;
    data.lanes.forEach(function (lane, number) {
      lane.items.forEach(function (item) {
        low = Math.min(low, item[0]); high = Math.max(high, item[1]);
        if (item[4] === "stages") { dump = Math.max(dump, item[1]); }
        items.push({start: item[0], end: item[1], track: item[2] % MOST, kind: item[3], table: item[4], row: item[5], name: item[6], detail: item[7], lane: number});
      });
    });
    items.sort(function (a, b) { return a.start - b.start; });
    var span = Math.max(high - low, 1000), from = low - span * 0.03, to = high + span * 0.06;
    var full = [from, to], chosen = -1, drag = null, pointed = [];
    // What lies hours away must not press the crash into a line.
    from = Math.max(from, -900e9); to = Math.min(to, 3600e9);
    if (to <= from || !items.some(function (item) { return item.start <= to && item.end >= from; })) { from = full[0]; to = full[1]; }
    else if (from > full[0] || to < full[1]) { told.textContent = "What lies farther from the crash is behind the button All. " + told.textContent; }
    function draw() {
      var width = Math.max(chart.clientWidth, 200), scale = width / (to - from), y = TOP;
      var x = function (ns) { return (ns - from) * scale; };
      var tops = data.lanes.map(function (lane) {
        var top = y; y += GAP + Math.min(lane.tracks, MOST) * TRACK + 6; return top;
      });
      var svg = element("svg", {width: width, height: y + 4, viewBox: "0 0 " + width + " " + (y + 4)});
      var step = Math.pow(10, Math.floor(Math.log10((to - from) / (width / 90))));
      [1, 2, 5, 10].some(function (factor) {
        if (step * factor * scale >= 80) { step *= factor; return true; }
        return false;
      });
      for (var tick = Math.ceil(from / step) * step; tick <= to; tick += step) {
        svg.appendChild(element("line", {class: "grid", x1: x(tick), x2: x(tick), y1: 18, y2: y}));
        var label = Math.abs(tick) < step / 1e6 ? "0" : duration(tick);
        if (x(tick) + 3 + 7 * label.length > width) { continue; } // it would be cut off
        svg.appendChild(element("text", {class: "tick", x: x(tick) + 3, y: 13}, label));
      }
      if (from <= 0 && to >= 0) {
        svg.appendChild(element("line", {class: "crash", x1: x(0), x2: x(0), y1: 0, y2: y}));
      }
      data.lanes.forEach(function (lane, number) {
        svg.appendChild(element("text", {x: 6, y: tops[number] + 15}, lane.name + " (" + lane.all + ")"));
      });
      items.forEach(function (item, number) {
        if ((item.end < from && item.kind !== "open") || item.start > to) { return; }
        var isOpen = item.kind === "open" && item.end === item.start && item.table !== "requests"; // it never came to an end
        var left = Math.max(x(item.start), -5), right = Math.min(isOpen ? x(until(item)) : x(item.end), width + 5);
        var top = tops[item.lane] + GAP + item.track * TRACK, shape;
        if (right - left < 3) {
          shape = element("path", {d: "M" + left + " " + top + "l4 6.5l-4 6.5l-4 -6.5z"});
        } else {
          shape = element("rect", {x: left, y: top, width: right - left, height: 13, rx: 2});
        }
        shape.setAttribute("class", "item k-" + item.kind + (number === chosen ? " on" : ""));
        shape.dataset.item = number;
        svg.appendChild(shape);
      });
      chart.replaceChildren(svg);
    }
    // A step that was never left is drawn until the first event after it, such as the restart.
    function until(item) {
      var later = items.filter(function (other) { return other.table === "events" && other.start > item.start; });
      return later.length ? later[0].start : Infinity;
    }
    function words(item) {
      var length = item.end - item.start;
      return item.name + " (" + data.lanes[item.lane].name + "): at " + duration(item.start) +
        (length ? ", " + duration(length) + " long" : "") + ". " + item.detail;
    }
    function choose(number) {
      chosen = Math.max(0, Math.min(items.length - 1, number));
      var item = items[chosen];
      if (item.end < from || item.start > to) { move(item.start - (from + to) / 2); }
      told.textContent = words(item);
      draw();
    }
    function zoom(factor, at) {
      var middle = at === undefined ? (from + to) / 2 : at;
      if ((to - from) * factor < 100 || (to - from) * factor > (full[1] - full[0]) * 1.5) { return; }
      from = middle - (middle - from) * factor; to = middle + (to - middle) * factor;
      draw();
    }
    function move(ns) { from += ns; to += ns; draw(); }
    function view(start, end) { if (end > start) { from = start; to = end; draw(); } }
    var zooms = {
      in: function () { zoom(0.5); }, out: function () { zoom(2); },
      left: function () { move((from - to) / 4); }, right: function () { move((to - from) / 4); },
      all: function () { view(full[0], full[1]); },
      before: function () { view(-1.05e9, 0.05e9); },
      dump: function () { view(-0.05 * dump, dump * 1.2); },
      after: function () { view(-0.02 * high, high > 0 ? high * 1.03 : 1e9); }
    };
    all("[data-zoom]", part).forEach(function (button) {
      if (button.dataset.zoom === "after" && high <= 0) { button.hidden = true; }
      if (button.dataset.zoom === "dump" && !(dump > 0 && dump < high / 2)) { button.hidden = true; }
      if (button.dataset.zoom === "before" && low >= 0) { button.hidden = true; }
      button.addEventListener("click", zooms[button.dataset.zoom]);
    });
    chart.addEventListener("keydown", function (event) {
      var keys = {
        ArrowRight: function () { choose(chosen + 1); }, ArrowLeft: function () { choose(chosen - 1); },
        Home: function () { choose(0); }, End: function () { choose(items.length - 1); },
        "+": zooms.in, "=": zooms.in, "-": zooms.out, "0": zooms.all,
        Enter: function () { if (chosen >= 0) { show("r-" + items[chosen].table + "-" + items[chosen].row); } }
      };
      if (keys[event.key] && !event.ctrlKey && !event.metaKey) { event.preventDefault(); keys[event.key](); }
    });
    function under(event) { var item = event.target.dataset && event.target.dataset.item; return item === undefined ? null : Number(item); }
    chart.addEventListener("mouseover", function (event) {
      var number = under(event);
      // a chart that is drawn anew under a pointer at rest tells nothing
      var isAtRest = event.clientX === pointed[0] && event.clientY === pointed[1];
      if (number !== null && !drag && !isAtRest) { told.textContent = words(items[number]); }
      pointed = [event.clientX, event.clientY];
    });
    chart.addEventListener("click", function (event) {
      var number = under(event);
      if (number !== null) { choose(number); }
    });
    chart.addEventListener("dblclick", function () {
      if (chosen >= 0) { show("r-" + items[chosen].table + "-" + items[chosen].row); }
    });
    chart.addEventListener("wheel", function (event) {
      if (!event.ctrlKey && document.activeElement !== chart) { return; }
      event.preventDefault();
      var box = chart.getBoundingClientRect();
      zoom(event.deltaY < 0 ? 0.8 : 1.25, from + (event.clientX - box.left) / box.width * (to - from));
    }, {passive: false});
    chart.addEventListener("pointerdown", function (event) { drag = {x: event.clientX, moved: false}; });
    window.addEventListener("pointermove", function (event) {
      if (!drag) { return; }
      var by = event.clientX - drag.x;
      if (Math.abs(by) < 4 && !drag.moved) { return; }
      drag.moved = true; drag.x = event.clientX;
      move(-by / chart.clientWidth * (to - from));
    });
    window.addEventListener("pointerup", function () { drag = null; });
    window.addEventListener("resize", draw);
    var folded = part.closest("details"); // a folded chart has no width to draw for
    if (folded) { folded.addEventListener("toggle", draw); }
    draw();
  }
  var holder = document.getElementById("data");
  if (holder) {
    var parts = all(".timeline");
    JSON.parse(holder.textContent).charts.forEach(function (data, number) { timeline(data, parts[number]); });
  }
})();
