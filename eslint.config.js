import js from "@eslint/js";
import globals from "globals";

export default [
  {
    ignores: [
      "clients/javascript/arqonbus.js", // built from clients/javascript/src
      "bus/static/arqonbus/arqonbus.js",
      "bus/static/arqonbus/vendor/**",
      "examples/agent_chat/chat/static/chat/htmx.min.js",
      "var/**",
      ".venv/**",
      "**/*.mts",
      "tests/wire/readme_client.mjs", // the first README, word by word
    ],
  },
  js.configs.recommended,
  {
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      "arrow-body-style": "error",
      "default-case-last": "error",
      eqeqeq: ["error", "always", { null: "ignore" }],
      "max-lines": ["error", { max: 400 }],
      "no-constructor-return": "error",
      "no-else-return": ["error", { allowElseIf: true }],
      "no-implicit-coercion": "error",
      "no-new-wrappers": "error",
      "no-return-assign": ["error", "except-parens"],
      "no-self-compare": "error",
      "no-shadow": ["error", { builtinGlobals: false }],
      "no-template-curly-in-string": "error",
      "no-throw-literal": "error",
      "no-unmodified-loop-condition": "error",
      "no-unused-expressions": "error",
      "no-unused-vars": ["error", { argsIgnorePattern: "^_" }],
      "no-useless-rename": "error",
      "no-useless-return": "error",
      "no-var": "error",
      "object-shorthand": "error",
      "prefer-const": ["error", { destructuring: "all" }],
      "prefer-template": "error",
      // Prettier formats code to 120 columns. It leaves comments and texts alone, so they are checked here.
      "max-len": ["error", { code: 120, ignoreUrls: true, ignoreRegExpLiterals: true }],
    },
  },
  {
    files: ["clients/javascript/src/**"],
    languageOptions: { globals: globals["shared-node-browser"] },
    rules: { "no-console": ["error", { allow: ["warn", "error"] }] },
  },
  {
    files: ["bus/static/arqonbus/**", "examples/**"],
    languageOptions: { globals: globals.browser },
    rules: {
      "no-console": "error",
      // What comes from the bus is hostile until it went through `textContent`.
      "no-restricted-properties": ["error", { property: "innerHTML" }, { property: "outerHTML" }],
      "no-restricted-globals": ["error", "event", "name", "status", "find", "parent", "top"],
    },
  },
  {
    // It shows HTML of the project's own templates, and says what could not be shown.
    files: ["bus/static/arqonbus/live.js"],
    rules: { "no-console": ["error", { allow: ["error"] }], "no-restricted-properties": "off" },
  },
  { files: ["examples/langgraph_agui/**"], languageOptions: { globals: globals.node } },
  { files: ["tests/**"], languageOptions: { globals: globals.node }, rules: { "no-shadow": "off" } },
  { files: ["tests/rest/stock_clients.mjs"], languageOptions: { globals: globals.browser } },
  { files: ["bench/**"], languageOptions: { globals: globals.node, sourceType: "commonjs" } },
];
