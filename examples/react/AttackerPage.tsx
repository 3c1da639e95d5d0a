// An attacker's page, as DECNET's is: the panel fetches by UUID on its own, beside
// whatever else the page loads, and follows changes.
import { useEffect, useState } from "react";
import type { IntelState } from "./intel-panel";

const enrich = "https://enrich.example:8089"; // started with -cors and this page's origin

/** Loads the component, once. */
function usePanel(): void {
  useEffect(() => {
    if (customElements.get("intel-panel") || document.querySelector("script[data-intel-panel]")) return;
    const script = document.createElement("script");
    script.type = "module";
    script.src = enrich + "/intel-panel.js";
    script.dataset.intelPanel = "";
    document.head.append(script);
  }, []);
}

export function AttackerPage({ uuid, token }: { uuid: string; token: () => Promise<string> }) {
  usePanel();
  const [state, setState] = useState<IntelState>("loading");
  return (
    <main>
      <h1>Attacker {uuid}</h1>
      <intel-panel
        uuid={uuid}
        base={enrich}
        token={token}
        ref={(panel) => {
          const changed = (e: CustomEvent<{ state: IntelState }>) => setState(e.detail.state);
          panel?.addEventListener("intel-state", changed);
          return () => panel?.removeEventListener("intel-state", changed);
        }}
      />
      {state === "error" && <p>The rest of the page does not depend on the panel.</p>}
    </main>
  );
}
