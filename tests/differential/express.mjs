// Express with its defaults: `express.mjs port`.
import express from "express";

const served = (route) => (_request, response) => response.send(`served:${route};`);
const app = express();
app.all("/", served("home"));
app.all("/about", served("about"));
app.use("/public", served("public"));
app.use("/admin", served("admin"));
app.use("/dashboard", served("dashboard"));
app.all("/api/private", served("private"));
app.all("/shop/:id/edit", served("edit"));
app.all("/shop/:id", (request, response) => {
  served(request.params.id === "secret" ? "vault" : "shop")(request, response);
});
app.all(encodeURI("/café"), served("cafe"));
app.use("/files", express.static("files"));
app.use((_request, response) => response.status(404).send("nothing here"));
app.use((_error, _request, response, _next) => response.status(400).send("not understood"));
app.listen(Number(process.argv[2]), "127.0.0.1");
