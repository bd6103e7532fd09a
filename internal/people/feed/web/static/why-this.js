// <why-this src="/why/DECISION?item=ID"></why-this>: why is this shown to me?
//
// src answers with what GET /decisions/ID/reasons?item=ID gives. Instead of src, a child
// <script type="application/json"> may hold the same. lang (en or fr) is that of the nearest
// element that has one. No dependencies; nothing is loaded from elsewhere; all text is set as
// text, never as markup.
(() => {
  "use strict";

  const words = {
    en: {
      why: "Why this?", close: "Close", loading: "Looking it up…", failed: "The reasons cannot be shown now.",
      title: "Why this is shown", up: "raised it", down: "lowered it", personal: "personal", share: "share of the decision",
      change: "What would have changed it", model: "Model", off: "Profiling is off: nothing personal counted.", rank: "Place",
    },
    fr: {
      why: "Pourquoi ceci ?", close: "Fermer", loading: "Recherche…", failed: "Les raisons ne peuvent pas être affichées.",
      title: "Pourquoi ceci est affiché", up: "l’a fait monter", down: "l’a fait descendre", personal: "personnel", share: "part de la décision",
      change: "Ce qui l’aurait changé", model: "Modèle", off: "Le profilage est désactivé : rien de personnel n’a compté.", rank: "Place",
    },
  };

  const css = `
    :host { display: inline-block; font: inherit; color: inherit; max-inline-size: 100%; }
    button { font: inherit; color: inherit; background: none; border: 1px solid currentColor; border-radius: 1em; padding: .1em .7em; cursor: pointer; }
    button:focus-visible { outline: 3px solid Highlight; outline-offset: 2px; }
    .panel { border: 1px solid currentColor; border-radius: .5em; padding: .7em 1em; margin-block-start: .5em; max-inline-size: 34em; }
    h3 { font-size: 1em; margin: 0 0 .4em; }
    p { margin: .3em 0; }
    ul { list-style: none; margin: .4em 0; padding: 0; }
    li { margin: .5em 0; }
    .bar { block-size: .35em; background: color-mix(in srgb, currentColor 15%, transparent); border-radius: .2em; }
    .bar > span { display: block; block-size: 100%; background: #2a6; border-radius: .2em; }
    .bar > span.down { background: #b53; }
    small { opacity: .8; }
    [hidden] { display: none; }
    @media print { button { display: none; } }
    @media (forced-colors: active) { .bar > span { background: Highlight; } }
  `;

  const make = (tag, text, attributes = {}) => {
    const element = document.createElement(tag);
    if (text) element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };

  class WhyThis extends HTMLElement {
    #button; #panel; #status; #loaded = false;

    get #lang() {
      const near = this.closest("[lang]");
      return near && near.lang.toLowerCase().startsWith("fr") ? "fr" : "en";
    }

    connectedCallback() {
      if (this.shadowRoot) return;
      const w = words[this.#lang];
      const root = this.attachShadow({ mode: "open", delegatesFocus: true });
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(css);
      root.adoptedStyleSheets = [sheet];
      this.#button = make("button", w.why, { type: "button", "aria-expanded": "false", "aria-controls": "panel" });
      const about = this.getAttribute("about");
      if (about) this.#button.setAttribute("aria-label", `${w.why} ${about}`);
      this.#status = make("p", "", { role: "status" });
      this.#panel = make("div", "", { id: "panel", class: "panel", role: "region", "aria-label": w.title, tabindex: "-1" });
      this.#panel.hidden = true;
      this.#button.addEventListener("click", () => this.toggle());
      root.addEventListener("keydown", (event) => {
        if (event.key === "Escape" && !this.#panel.hidden) {
          event.stopPropagation();
          this.toggle(false);
          this.#button.focus();
        }
      });
      root.append(this.#button, this.#status, this.#panel);
    }

    async toggle(open = this.#panel.hidden) {
      const w = words[this.#lang];
      this.#button.setAttribute("aria-expanded", String(open));
      this.#panel.hidden = !open;
      this.#status.textContent = "";
      if (!open || this.#loaded) {
        if (open) this.#panel.focus();
        return;
      }
      this.#status.textContent = w.loading;
      try {
        this.#show(await this.#reasons());
        this.#loaded = true;
        this.#status.textContent = "";
        this.#panel.focus();
        this.dispatchEvent(new CustomEvent("why-this-shown", { bubbles: true, composed: true }));
      } catch {
        this.#status.textContent = w.failed;
        this.#panel.hidden = true;
        this.#button.setAttribute("aria-expanded", "false");
      }
    }

    async #reasons() {
      const inline = this.querySelector('script[type="application/json"]');
      if (inline) return JSON.parse(inline.textContent);
      const answer = await fetch(this.getAttribute("src"), { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(String(answer.status));
      return answer.json();
    }

    #show(data) {
      const lang = this.#lang, w = words[lang], item = data.items[0];
      const percent = new Intl.NumberFormat(lang, { style: "percent", maximumFractionDigits: 0 });
      const list = make("ul");
      for (const reason of item.reasons) {
        const up = reason.contribution > 0;
        const line = make("li");
        line.append(make("span", reason.sentence[lang]), document.createTextNode(" "),
          make("small", `${reason.name[lang]}: ${up ? w.up : w.down}, ${percent.format(reason.share)}${reason.personal ? ", " + w.personal : ""}`));
        const bar = make("div", "", { class: "bar", "aria-hidden": "true" });
        const part = make("span", "", up ? {} : { class: "down" });
        part.style.inlineSize = `${Math.min(100, 100 * reason.share)}%`;
        bar.append(part);
        line.append(bar);
        list.append(line);
      }
      const close = make("button", w.close, { type: "button" });
      close.addEventListener("click", () => { this.toggle(false); this.#button.focus(); });
      const parts = [make("h3", w.title), make("p", item.summary[lang])];
      if (!data.settings.profiling) parts.push(make("p", w.off));
      parts.push(list);
      if (item.counterfactual) parts.push(make("p", `${w.change}: ${item.counterfactual.text[lang]}`));
      parts.push(make("p", "", {}), close);
      parts[parts.length - 2].append(make("small", `${w.rank} ${item.rank} · ${w.model} ${data.model.slice(0, 12)}`));
      this.#panel.replaceChildren(...parts);
    }
  }

  if (!customElements.get("why-this")) customElements.define("why-this", WhyThis);
})();
