// Starts Swagger UI on this server's own OpenAPI document. A file of its own because
// the Content-Security-Policy allows no inline script.

const dark = matchMedia("(prefers-color-scheme: dark)");
const followTheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
followTheme();
dark.addEventListener("change", followTheme);

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: false,
  tryItOutEnabled: true,
  // null, or the document is sent to a validator on the internet.
  validatorUrl: null,
});
