// What the browser modules must not do, beside what the type checker finds.
import js from "@eslint/js";

const OUR_FILES = ["**/chatcore/browser/*.js"];

const FORBIDDEN = [
  {
    selector: "ImportDeclaration[source.value=/^[^.]/], ImportExpression[source.value=/^[^.]/]",
    message: "Only our own files, by a relative address.",
  },
  {
    selector: "CallExpression[callee.property.name='setAttribute'][arguments.0.value=/^(style|on.*)$/]",
    message: "A strict policy refuses it.",
  },
];

const DOES_SOMETHING = {
  selector: "Program > ExpressionStatement:not([directive])",
  message: "Importing a module does nothing; only the define module may.",
};

const MARKUP = ["innerHTML", "outerHTML", "insertAdjacentHTML", "setHTMLUnsafe", "srcdoc"].map((property) => ({
  property,
  message: "Texts become nodes, never markup.",
}));

export default [
  js.configs.recommended,
  {
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      "no-undef": "off", // tsc knows better
      "no-unused-vars": "off", // same
      "no-control-regex": "off", // hostile texts hold control characters
      eqeqeq: "error",
      "no-var": "error",
      "prefer-const": "error",
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-new-func": "error",
      "no-script-url": "error",
      "no-shadow": "error",
      "no-constant-condition": ["error", { checkLoops: false }],
    },
  },
  {
    files: OUR_FILES,
    rules: {
      "max-lines": ["error", 300],
      "no-console": "error",
      "no-restricted-properties": ["error", ...MARKUP, { object: "document", property: "write" }],
      "no-restricted-syntax": ["error", ...FORBIDDEN],
    },
  },
  {
    files: OUR_FILES,
    ignores: ["**/*-define.js", "**/demo.js"],
    rules: { "no-restricted-syntax": ["error", ...FORBIDDEN, DOES_SOMETHING] },
  },
];
