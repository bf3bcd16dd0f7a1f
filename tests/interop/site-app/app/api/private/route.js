import { served } from "../../../../shared/served.jsx";

export const GET = () => new Response(served("private"));
