"use strict";

SwaggerUIBundle({
  url: "openapi.json",
  domNode: document.getElementById("docs"),
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  validatorUrl: null, // nothing about an API goes to an outside validator
});
