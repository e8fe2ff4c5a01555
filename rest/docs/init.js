// Starts Swagger UI with this server's OpenAPI document. It is a separate file because
// the Content-Security-Policy allows no inline script.

const dark = matchMedia("(prefers-color-scheme: dark)");
const followTheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
followTheme();
dark.addEventListener("change", followTheme);

// In development the page has the demo token.
const { token } = JSON.parse(document.getElementById("twofold").textContent);

// An authorization is kept over a reload and ends with the tab: a token is never in localStorage,
// which stays, and which every service on localhost:8000 reads.
const KEY = "twofold:docs:token";
const keepAuthorization = () => ({
  statePlugins: {
    auth: {
      wrapActions: {
        authorize: (authorize) => (authorization) => {
          const { value } = authorization.session ?? {};
          if (value && value !== token) sessionStorage.setItem(KEY, value);
          return authorize(authorization);
        },
        logout: (logout) => (names) => {
          sessionStorage.removeItem(KEY);
          return logout(names);
        },
      },
    },
  },
});

// The example of a bulk deletion has ids that may be somebody's real tasks.
addEventListener("click", (event) => {
  const block = event.target.closest(".execute")?.closest('[id$="-bulk_delete_tasks"]');
  if (block && !confirm(`Delete these tasks?\n\n${block.querySelector("textarea").value}`))
    event.stopPropagation();
}, { capture: true });

const ui = SwaggerUIBundle({
  // Beside the folder of this file, whatever prefix a proxy puts before it.
  url: new URL("../openapi.json", document.currentScript.src).pathname,
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  // Swagger UI's own way is localStorage; see above.
  persistAuthorization: false,
  plugins: [keepAuthorization],
  tryItOutEnabled: true,
  // By default, Swagger UI sends the document to a validator on the internet.
  validatorUrl: null,
  onComplete() {
    const session = sessionStorage.getItem(KEY) ?? token;
    if (session) ui.preauthorizeApiKey("session", session);
  },
});

// Swagger UI leaves some fields and a button without a name for screen readers.
const nameField = (field) => {
  const parameter = field.closest("tr[data-param-name]")?.dataset.paramName;
  const body = field.matches("textarea") ? "Request body" : undefined;
  const choice = field.matches(".examples-select-element") ? "Example" : "Media type";
  field.setAttribute("aria-label", parameter ?? body ?? choice);
};
new MutationObserver(() => {
  document.querySelectorAll(":is(select, textarea):not([aria-label])").forEach(nameField);
  document.querySelector("button.close-modal")?.setAttribute("aria-label", "Close the dialog");
}).observe(document.getElementById("swagger-ui"), { childList: true, subtree: true });
