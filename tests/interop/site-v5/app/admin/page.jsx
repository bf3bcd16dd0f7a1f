import { session } from "../../auth.mjs";
import { Received } from "../../../shared/pages.jsx";

export default async function Page() {
  return <Received title="admin" session={await session()} />;
}
