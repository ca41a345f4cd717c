// Rate limiters from npm in front of one and the same answer, each as its own documentation shows it.
//
//     node npm.cjs PORT KIND LIMIT WINDOW LATENCY
//
// KIND: express-HEADERS (draft-6, draft-7, draft-8, legacy), fastify, koa, flexible.
"use strict";

const [port, kind, limit, window, latency] = process.argv.slice(2);
const [max, windowMs, latencyMs] = [Number(limit), window * 1000, latency * 1000];
const PATH = "/v1/chat/completions";
const ANSWER = {
  id: "a",
  object: "chat.completion",
  model: "m",
  choices: [{ index: 0, message: { role: "assistant", content: "yes" }, finish_reason: "stop" }],
  usage: { prompt_tokens: 228, completion_tokens: 64, total_tokens: 292 },
};
const worked = () => new Promise((done) => setTimeout(done, latencyMs, ANSWER));

function express(limiter) {
  const app = require("express")();
  app.use(limiter);
  app.post(PATH, async (request, response) => response.json(await worked()));
  app.listen(port, "127.0.0.1");
}

function expressRateLimit(headers) {
  const { rateLimit } = require("express-rate-limit");
  const legacyHeaders = headers === "legacy";
  express(rateLimit({ windowMs, limit: max, legacyHeaders, standardHeaders: legacyHeaders ? false : headers }));
}

function flexible() {
  const { RateLimiterMemory } = require("rate-limiter-flexible");
  const limiter = new RateLimiterMemory({ points: max, duration: Number(window) });
  express((request, response, next) => {
    const tell = (state) =>
      response.set({
        "Retry-After": state.msBeforeNext / 1000,
        "X-RateLimit-Limit": max,
        "X-RateLimit-Remaining": state.remainingPoints,
        "X-RateLimit-Reset": Math.ceil((Date.now() + state.msBeforeNext) / 1000),
      });
    limiter.consume(request.ip).then(
      (state) => (tell(state), next()),
      (state) => (tell(state), response.status(429).send("Too Many Requests")),
    );
  });
}

async function fastify() {
  const app = require("fastify")();
  await app.register(require("@fastify/rate-limit"), { max, timeWindow: windowMs });
  app.post(PATH, worked);
  await app.listen({ port: Number(port), host: "127.0.0.1" });
}

function koa() {
  const Koa = require("koa");
  const app = new Koa();
  app.use(require("koa-ratelimit")({ driver: "memory", db: new Map(), duration: windowMs, max }));
  app.use(async (context) => {
    context.body = await worked();
  });
  app.listen(port, "127.0.0.1");
}

if (kind.startsWith("express-")) expressRateLimit(kind.slice("express-".length));
else ({ fastify, koa, flexible })[kind]();
