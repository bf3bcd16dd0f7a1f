import { served } from "../../../shared/served.jsx";

export default function handler(_request, response) {
  response.send(served("private"));
}
