// Starts the operators' page; the only module of it that does something when it is imported.
import { startAdminPage } from "./admin.js";

startAdminPage();
