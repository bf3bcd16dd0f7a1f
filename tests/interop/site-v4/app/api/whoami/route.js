import { session } from "../../../auth.mjs";
import { whoami } from "../../../../shared/pages.jsx";

export const GET = async () => whoami(await session());
