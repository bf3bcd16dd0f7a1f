import { handler } from "../../../../auth.mjs";

export { handler as GET, handler as POST };
