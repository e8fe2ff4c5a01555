// Starts Swagger UI with this server's OpenAPI document. It is a separate file because
// the Content-Security-Policy allows no inline script.

const dark = matchMedia("(prefers-color-scheme: dark)");
const followTheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
followTheme();
dark.addEventListener("change", followTheme);

SwaggerUIBundle({
  // Beside the folder of this file, whatever prefix a proxy puts before it.
  url: new URL("../openapi.json", document.currentScript.src).pathname,
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: false,
  tryItOutEnabled: true,
  // By default, Swagger UI sends the document to a validator on the internet.
  validatorUrl: null,
});
