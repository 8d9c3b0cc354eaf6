// The description of HTTP, drawn by Swagger UI from this service's own files.

SwaggerUIBundle({ url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null });
