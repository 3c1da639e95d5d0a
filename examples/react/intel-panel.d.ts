// Types of the web component <intel-panel>, for TypeScript and React.
import type * as React from "react";

export type IntelState = "loading" | "absent" | "error" | "ok";

export interface IntelPanelElement extends HTMLElement {
  /** The attacker's UUID. */
  uuid: string;
  /** The origin of the API, like "https://enrich.example"; empty if it is that of the page. */
  base: string;
  /** A bearer token, or a function that returns one. */
  set token(token: string | (() => string | Promise<string>));
  get token(): string | (() => string | Promise<string>);
  readonly state: IntelState | null;
  /** Loads what is known now. */
  refresh(): void;
}

export interface IntelPanelAttributes extends React.HTMLAttributes<IntelPanelElement> {
  ref?: React.Ref<IntelPanelElement>;
  uuid: string;
  base?: string;
  token?: string | (() => string | Promise<string>);
  /** Do not follow changes. */
  nolive?: "";
}

declare global {
  interface HTMLElementTagNameMap {
    "intel-panel": IntelPanelElement;
  }
  interface HTMLElementEventMap {
    "intel-state": CustomEvent<{ state: IntelState }>;
  }
}

declare module "react" {
  namespace JSX {
    interface IntrinsicElements {
      "intel-panel": IntelPanelAttributes;
    }
  }
}
